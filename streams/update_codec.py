"""Updates as bytes (MessagePack), for a spool on disk: events, and the shown blocks with their specs."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import msgspec
import numpy as np

from streams.shown import shown_blocks
from twin_engine.ports import Block, BlockSpec, Port, Spec
from twin_engine.records import Event, Update


class _Block(msgspec.Struct, array_like=True):
    """A block and what its spec says: arrays as little-endian bytes, the mask packed to bits."""

    shape: tuple[int, int, int]
    values: bytes
    valid: bytes
    rows: bytes
    start: bytes
    rate: str
    channels: list[str]
    units: list[str]


class _Update(msgspec.Struct, array_like=True):
    twin: str
    assets: list[str]
    blocks: dict[str, _Block]
    events: list[Event]
    until: int
    arrival: int


_decoder = msgspec.msgpack.Decoder(_Update)


def encode_update(update: Update, show: Sequence[str]) -> bytes:
    """Return an update's events and shown blocks as bytes; of the assets, those that have a row in a block."""
    blocks: dict[str, _Block] = {}
    shown = shown_blocks(update, show)
    rows_there = np.unique(np.concatenate([np.zeros(0, np.int64), *(block.rows for block in shown.values())]))
    for key, block in shown.items():
        spec = update.specs[key]
        if isinstance(spec, BlockSpec):
            rows, channels, time = block.values.shape
            blocks[key] = _Block(
                (rows, channels, time),
                block.values.astype("<f8").tobytes(),
                np.packbits(block.valid).tobytes(),
                np.searchsorted(rows_there, block.rows).astype("<i8").tobytes(),
                block.start.astype("<i8").tobytes(),
                str(spec.rate),
                list(spec.channels),
                list(spec.units),
            )
    assets = [update.assets[int(row)] for row in rows_there]
    record = _Update(update.twin, assets, blocks, list(update.events), update.until, update.arrival)
    return msgspec.msgpack.encode(record)


def decode_update(data: bytes) -> Update:
    """Return the update; raises ``msgspec.DecodeError``."""
    record = _decoder.decode(data)
    outputs: dict[str, Port] = {}
    specs: dict[str, Spec] = {}
    for key, block in record.blocks.items():
        outputs[key] = Block(
            np.frombuffer(block.values, "<f8").reshape(block.shape),
            np.unpackbits(np.frombuffer(block.valid, np.uint8), count=int(np.prod(block.shape))).reshape(block.shape).astype(np.bool_),
            np.frombuffer(block.rows, "<i8"),
            np.frombuffer(block.start, "<i8"),
        )
        specs[key] = BlockSpec(Fraction(block.rate), tuple(block.channels), tuple(block.units))
    return Update(record.twin, record.assets, outputs, specs, record.events, record.until, record.arrival)
