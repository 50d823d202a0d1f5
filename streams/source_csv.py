"""Comma-separated values, read piece by piece and resumable at any item.

A piece that is clean is parsed by Arrow; one that is not is parsed row by row, with the same result for the good rows and a reject for each
bad one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from streams.chunks import Chunk, chunks, items_from, lines, open_bytes
from streams.columns import OPTIONS, Layout, scan_assets
from streams.context import Context
from streams.rows import Parsed, Rows, cells, fast, slow
from streams.times import check_unit
from streams.uri import Uri
from twin_engine.errors import InputError
from twin_engine.records import Item, Position, Reason, Reject

_SEPARATORS = (",", ";", "\t")


def open_csv(uri: Uri, context: Context) -> CsvSource:
    """Open ``csv:FILE?time=COLUMN&unit=UNIT&value=COLUMN,COLUMN:CHANNEL&asset=COLUMN&sep=;``.

    unit: of the time column: ``iso``, ``s``, ``ms``, ``us``, ``ns`` or ``gps``; not given, ISO text or seconds. sep: not given, the first
    of comma, semicolon and tab that the header has. For time, value and asset see ``Layout.choose``. Files ending in ``.gz`` are
    uncompressed on the way.
    """
    uri.only(*OPTIONS, "sep")
    path = uri.existing()
    with open_bytes(path) as file:
        try:
            head = next(chunks(file, 0), Chunk(0, 0, b""))
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(uri.text, expected="a readable file", found=str(error), mend="Check the file.") from None
    header, _, rest = head.data.partition(b"\n")
    try:
        text = header.decode("utf-8-sig").removesuffix("\r")
    except UnicodeDecodeError:
        raise InputError(uri.text, expected="a header in UTF-8", found=repr(header[:60]), mend="Convert the file to UTF-8.") from None
    separator = uri.options.get("sep") or next((s for s in _SEPARATORS if s in text), ",")
    if len(separator) != 1:
        raise InputError(f"option 'sep' of {uri.text}", expected="one character", found=repr(separator), mend="Write sep=; or sep=%09.")
    names = cells(text, separator)
    layout = Layout.choose(uri, context, names, _numeric(rest, separator, len(names)))
    unit = check_unit(uri.options["unit"], uri.text) if "unit" in uri.options else ""
    rows = Rows(layout, len(names), separator, unit, context.asset or path.name.partition(".")[0])
    return CsvSource(uri, rows, len(header) + 1)


def _numeric(data: bytes, separator: str, width: int) -> list[int]:
    """Return which columns hold a number in one of the first rows (all of them when there are no rows)."""
    heads = [line.decode("utf-8", "replace").split(separator) for line in lines(data[:65536])[:20]]
    rows = [row for row in heads if len(row) == width]
    return [i for i in range(width) if not rows or any(Rows.number(row[i].strip('"')) is not None for row in rows)]


class CsvSource:
    """Rows of one file. For positions see ``items_from``."""

    live = False

    def __init__(self, uri: Uri, rows: Rows, header: int) -> None:
        self._uri, self._rows, self._header = uri, rows, header

    @property
    def assets(self) -> list[str]:
        """Names of the assets, in order of first appearance; reads the whole file where a column holds them."""
        return [self._rows.default] if self._rows.layout.asset < 0 else scan_assets(self)

    def items(self, position: Position) -> Iterator[Item]:
        """Yield a reading an asset for each piece of the file, then a reject for each bad row of the piece."""
        with open_bytes(self._uri.existing()) as file:
            try:
                yield from items_from(file, position, self._header, self._parse)
            except (EOFError, OSError, zlib.error) as error:
                raise InputError(
                    self._uri.text, expected="a whole file", found=str(error), mend="Was it cut or replaced? Begin anew."
                ) from None

    def _parse(self, chunk: Chunk) -> list[Item]:
        """Return the items of one piece."""
        if chunk.too_long:
            detail = f"a line of {chunk.stop - chunk.start} bytes; its head is kept"
            return [Reject(Reason.TOO_LARGE, detail, self._uri.text, chunk.data)]
        parsed: Parsed = fast(self._rows, chunk.data) or slow(self._rows, chunk.data)
        rejects = [Reject(reason, detail, self._uri.text, raw) for reason, detail, raw in parsed.bad]
        return [*parsed.readings, *rejects]

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: the file keeps itself."""

    def close(self) -> None:
        """Nothing is held between readings."""
