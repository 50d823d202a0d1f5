"""JSON lines as a source, from a file or from standard input.

A line is one sample: ``{"asset": "a", "channel": "x", "ts": "2020-01-01T00:00:00Z", "value": 1.5}``.
"""

from __future__ import annotations

import io
import math
import os
import select
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import msgspec

from streams.chunks import LONGEST_LINE, Chunk, items_from, lines, open_bytes
from streams.columns import scan_assets
from streams.context import Context
from streams.gather import Gatherer
from streams.times import check_unit, from_text
from streams.uri import Uri
from twin_engine.errors import InputError
from twin_engine.records import Item, Position, Reason, Reject

_WAIT = 0.1


class _Line(msgspec.Struct):
    """What a line holds. ts: ISO text, or a number in the source's unit. value: a number, or null for a missing one."""

    channel: str
    ts: str | int | float
    value: float | None
    asset: str = ""
    unit: str = ""


def open_lines(uri: Uri, context: Context) -> LinesSource:
    """Open ``lines:FILE?unit=s``, or ``lines:-`` for standard input.

    unit: of a ``ts`` that is a number (``s``, ``ms``, ``us``, ``ns``, ``gps``). A line without an asset belongs to the asset that was
    given.
    """
    uri.only("unit")
    if uri.path != "-":
        uri.existing()
    return LinesSource(uri, check_unit(uri.options.get("unit", "s"), uri.text), context.asset or "")


class LinesSource:
    """Lines of one file or of standard input, which is live and cannot go back. For positions see ``items_from``."""

    def __init__(self, uri: Uri, unit: str, default: str) -> None:
        self._uri, self._unit, self._default = uri, unit, default
        self._decoder = msgspec.json.Decoder(_Line)
        self.live = uri.path == "-"

    @property
    def assets(self) -> list[str]:
        """Names of the assets, in order of first appearance; reads the whole file. Of standard input, the one that was given."""
        if not self.live:
            return scan_assets(self)
        if not self._default:
            raise InputError(self._uri.text, expected="the assets to be named", found="standard input", mend="Name them with --asset.")
        return [self._default]

    def items(self, position: Position) -> Iterator[Item]:
        """Yield readings in the order of each asset's lines, then the rejects, piece by piece; Idle while standard input is silent."""
        if self.live:
            yield from items_from(cast("BinaryIO", _StandardInput()), None, 0, self._parse)
            return
        with open_bytes(self._uri.existing()) as file:
            try:
                yield from items_from(file, position, 0, self._parse)
            except (EOFError, OSError, zlib.error) as error:
                raise InputError(
                    self._uri.text, expected="a whole file", found=str(error), mend="Was it cut or replaced? Begin anew."
                ) from None

    def _parse(self, chunk: Chunk) -> list[Item]:
        """Return the readings and rejects of one piece."""
        if chunk.too_long:
            detail = f"a line of {chunk.stop - chunk.start} bytes; its head is kept"
            return [Reject(Reason.TOO_LARGE, detail, self._uri.text, chunk.data)]
        gathered: dict[str, Gatherer] = {}
        rejects: list[Item] = []
        for raw in lines(chunk.data):
            try:
                line, time = self._line(raw)
            except _BadLineError as error:
                rejects.append(Reject(error.reason, str(error), self._uri.text, raw))
                continue
            asset = line.asset or self._default
            gatherer = gathered.get(asset) or gathered.setdefault(asset, Gatherer(asset))
            gatherer.add(time, line.channel, line.unit, math.nan if line.value is None else line.value)
        return [*(reading for gatherer in gathered.values() for reading in gatherer.readings()), *rejects]

    def _line(self, raw: bytes) -> tuple[_Line, int]:
        """Return a line and its time in ns; raises _BadLineError."""
        if len(raw) > LONGEST_LINE:
            raise _BadLineError(Reason.TOO_LARGE, f"a line of {len(raw)} bytes")
        try:
            raw.decode()
            line = self._decoder.decode(raw)
            time = from_text(line.ts, "iso") if isinstance(line.ts, str) else from_text(repr(line.ts), self._unit)
        except UnicodeDecodeError as error:
            raise _BadLineError(Reason.NOT_UTF8, str(error)) from None
        except (msgspec.DecodeError, ValueError) as error:
            raise _BadLineError(Reason.MALFORMED, str(error)) from None
        if not (line.asset or self._default):
            raise _BadLineError(Reason.MALFORMED, "no asset, neither in the line nor given")
        return line, time

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: a file keeps itself, standard input cannot go back."""

    def close(self) -> None:
        """Nothing is held between readings."""


class _BadLineError(ValueError):
    """A line that is not what it should be."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _StandardInput(io.RawIOBase):
    """Standard input that reads as None when nothing comes within a tenth of a second."""

    def read(self, size: int = -1) -> bytes | None:
        """Return what there is."""
        number = sys.stdin.fileno()
        return os.read(number, size) if select.select([number], [], [], _WAIT)[0] else None
