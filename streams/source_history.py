"""The input that a run kept (``--to parquet:DIR?input=yes``), played again in the order in which it came, with its arrival times."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec.structs import replace

from streams.context import Context
from streams.readings_table import from_batch
from streams.segments import files
from streams.uri import Uri, nearest
from twin_engine.clock import parse_iso
from twin_engine.errors import InputError
from twin_engine.records import Item, Position, Reading

_PIECE = 4 << 20  # bytes of readings taken from a file at once, about


class _File(NamedTuple):
    """A file, and the first and last ``seq`` in it."""

    first: int
    last: int
    path: Path


def open_history(uri: Uri, context: Context) -> HistorySource:
    """Open ``history:DIR?twin=NAME&asset=A,B&from=TIME&to=TIME``.

    twin: whose input (default: that of the twin that is run, or the only one there). asset: which (default: all). from, to: ISO times of
    samples, the latter not included.
    """
    uri.only("twin", "asset", "from", "to")
    if not uri.file.is_dir():
        raise InputError(uri.text, expected="a directory", found="none there", mend="Check the path.")
    kept = sorted(path.parent.name.removeprefix("twin=") for path in uri.file.glob("twin=*/output=input"))
    asked = uri.options.get("twin") or (context.twin if context.twin in kept else "") or (kept[0] if len(kept) == 1 else "")
    if asked not in kept:
        mend = nearest(asked, kept) if kept else "Keep it while a twin runs: --to parquet:DIR?input=yes."
        raise InputError(uri.text, expected="the input of a twin", found=asked or f"{len(kept)} twins", mend=mend)
    span = (parse_iso(uri.options.get("from", "1677-09-22")), parse_iso(uri.options.get("to", "2262-04-11")))
    return HistorySource(uri, asked, uri.names("asset") or ((context.asset,) if context.asset else ()), span)


class HistorySource:
    """Readings as they came. A position is the ``seq`` of the last one."""

    live = False

    def __init__(self, uri: Uri, twin: str, assets: tuple[str, ...], span: tuple[int, int]) -> None:
        self._uri, self._twin, self._wanted, self._span = uri, twin, frozenset(assets), span

    @property
    def assets(self) -> list[str]:
        """Names of the assets, in the order in which they first came; reads the column that holds them."""
        found: dict[str, int] = {}
        for file in self._files():
            with pq.ParquetFile(file.path) as opened:
                table = opened.read(columns=["seq", "asset"])
            for seq, name in zip(table["seq"].to_pylist(), table["asset"].to_pylist(), strict=True):
                if seq < found.get(name, seq + 1):
                    found[name] = seq
        return [name for name in sorted(found, key=found.__getitem__) if not self._wanted or name in self._wanted]

    def _files(self) -> list[_File]:
        """Return the files by what is first in them; raises InputError."""
        found: list[_File] = []
        days = (self._uri.file / f"twin={self._twin}" / "output=input").glob("day=*")
        for path in (path for day in days for path in files(day)):
            try:
                footer: Any = pq.read_metadata(path)
                groups = [footer.row_group(i).column(0).statistics for i in range(footer.num_row_groups)]
            except (pa.ArrowInvalid, OSError) as error:
                raise InputError(str(path), expected="a Parquet file", found=str(error), mend="Take it away, or end its writer.") from None
            found.append(_File(min(g.min for g in groups), max(g.max for g in groups), path))
        return sorted(found)

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the readings after a position, in order over all files; a file is open only while its readings are due."""
        waiting = deque(file for file in self._files() if position is None or file.last > position)
        due: list[tuple[int, int, Reading, Iterator[tuple[int, Reading]]]] = []  # the second: which file, where all else is equal
        opened = 0
        done = -1 if position is None else int(position)
        while waiting or due:
            if waiting and (not due or waiting[0].first < due[0][0]):
                rows = _rows(waiting.popleft().path)
                first = next(rows)
                opened += 1
                heapq.heappush(due, (first[0], opened, first[1], rows))
                continue
            seq, number, reading, rows = heapq.heappop(due)
            if (after := next(rows, None)) is not None:
                heapq.heappush(due, (after[0], number, after[1], rows))
            if seq <= done:  # had before; or twice, as a file that was joined may be there beside its parts
                continue
            done = seq
            if (cut := self._cut(reading)) is not None:
                yield replace(cut, position=seq)

    def _cut(self, reading: Reading) -> Reading | None:
        """Return what is wanted of a reading, if anything."""
        if self._wanted and reading.asset not in self._wanted:
            return None
        begin, end = self._span
        inside = (reading.times >= begin) & (reading.times < end)
        if inside.all():
            return reading
        return replace(reading, times=reading.times[inside], values=reading.values[:, inside]) if np.any(inside) else None

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: the files stay."""

    def close(self) -> None:
        """Nothing is held between readings."""


def _rows(path: Path) -> Iterator[tuple[int, Reading]]:
    """Yield a file's readings; raises InputError."""
    try:
        with pq.ParquetFile(path) as file:
            footer: Any = file.metadata
            size = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
            for batch in file.iter_batches(max(1, _PIECE * footer.num_rows // max(size, 1))):
                yield from from_batch(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(str(path), expected="readings", found=str(error), mend="Was it replaced meanwhile? Begin again.") from None
