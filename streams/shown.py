"""The outputs of an update that a sink keeps."""

from __future__ import annotations

from collections.abc import Sequence

from twin_engine.ports import Block
from twin_engine.records import Update


def shown_blocks(update: Update, show: Sequence[str]) -> dict[str, Block]:
    """Return key -> block of the shown outputs, in the order of ``show``.

    show: names as ``"stage.port"``, as a stage (its first port), or as a stream.
    """
    blocks: dict[str, Block] = {}
    for name in show:
        key = name if name in update.outputs else next((k for k in update.outputs if k.startswith(f"{name}.")), "")
        port = update.outputs.get(key)
        if isinstance(port, Block):
            blocks[key] = port
    return blocks
