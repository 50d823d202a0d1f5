"""Twins on streams by address: what ``twin-engine run`` does."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import streams
from streams.dead_letter import FILE
from twin_engine.assets import expand
from twin_engine.errors import InputError, SinkError
from twin_engine.loader import load
from twin_engine.records import Sink
from twin_engine.rehearsal import rehearse
from twin_engine.run import Run, RunReport

if TYPE_CHECKING:
    from twin_engine.config import Config


def run(
    name: str, source_uri: str, sink_uris: Sequence[str], *, assets: Sequence[str] = (), assets_file: Path | None = None,
    speed: str = "max", state: Path | None = None, duration: float | None = None,
) -> RunReport:  # fmt: skip
    """Run a twin by name on a source and sinks by address, and return what it came to.

    assets: names and ranges (``t-[01-20]``), assets_file: more of them; one is given to a source that has none of its own, several are
    those that are taken. speed: of a recording, ``max``, ``realtime`` or ``10x``. state: folder of snapshots, rejects and what a sink
    that is down has missed, from which a run goes on. duration: seconds on the wall clock. Raises TwinError.

    source_uri: an address, or a TOML file whose broker is the source and whose assets, sinks, metrics and logs count too.
    """
    twin, names, config = load(name), expand(assets, assets_file), None
    if source_uri.endswith(".toml"):
        from twin_engine.config import read_config  # noqa: PLC0415 - an extra

        config = read_config(Path(source_uri))
        if config.twin != name:
            raise InputError(f"{source_uri}, key 'twin'", expected=name, found=config.twin, mend="Run that twin, or mend the file.")
        source_uri, names = config.mqtt.address(), names or expand(config.assets, config.assets_file)
        sink_uris = [*sink_uris, *(section.to for section in config.sinks.values())]
    if not sink_uris:
        raise SinkError("--to", expected="a sink", found="none", mend="Write --to terminal:, or --to jsonl:events.jsonl.")
    sinks = [_sink(uri, i, tuple(twin.show), state) for i, uri in enumerate(sink_uris)]
    source = streams.open_source(source_uri, twin=twin, asset=names[0] if len(names) == 1 else None, folder=state)
    paced = streams.pace(source, speed)
    if names and not source.live:
        _check_assets(source_uri, source, names)
    dead = streams.DeadLetter(state / FILE) if state else None
    one = Run(twin, paced, sinks, assets=names or source.assets, state_dir=state, dead_letter=dead, duration=duration)
    with ExitStack() as around:
        if config:
            _observe(one, config, around)
        gc.freeze()  # what thousands of assets are made of lives as long as the run: a pass of the collector through it holds up all
        around.callback(gc.unfreeze)
        report = one()
    report.spooled = {uri: sink.left for uri, sink in zip(sink_uris, sinks, strict=True) if isinstance(sink, streams.Spool) and sink.left}
    return report


def _observe(one: Run, config: Config, around: ExitStack) -> None:
    """Log, and let the run be looked at, as the configuration says; kernels are compiled before it begins, which is not to be stuck."""
    from twin_engine.logs import set_up  # noqa: PLC0415 - an extra
    from twin_engine.metrics import served  # noqa: PLC0415

    set_up(config.log.level, config.log.format)
    around.enter_context(served(one, config.metrics.host, config.metrics.port))
    if config.metrics.port:
        rehearse(one.engine.graph.twin)


def _sink(uri: str, number: int, show: tuple[str, ...], state: Path | None) -> Sink:
    """Return the sink at an address; with a state folder, behind a spool, unless it is a screen."""
    sink = streams.open_sink(uri, show=show, folder=state)
    return sink if state is None or uri.startswith("terminal:") else streams.Spool(sink, state / "spool" / str(number), show=show)


def _check_assets(uri: str, source: streams.Recording, names: Sequence[str]) -> None:
    """Raise InputError where a source that knows its assets has none of those that were named."""
    try:
        known = source.assets
    except InputError:
        return
    if not set(known) & set(names):
        raise InputError(
            f"--asset of {uri}", expected=f"assets of the source, which has {', '.join(known[:5])}{' ...' if len(known) > 5 else ''}",
            found=f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}",
            mend="Name those, or say which column holds the asset: ?asset=COLUMN.",
        )  # fmt: skip
