"""Questions to history: the Parquet segments of a directory as tables of SQL, by DuckDB."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from streams.segments import files
from streams.uri import nearest
from twin_engine.clock import NS, iso
from twin_engine.errors import InputError, SinkError

EVENTS, INPUT = "events", "input"
DAY = 86_400 * NS
SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Choice:
    """What of history is looked at: twins and assets (empty: all), and ns UTC from ``begin`` until before ``end`` (None: open)."""

    twins: Sequence[str] = ()
    assets: Sequence[str] = ()
    begin: int | None = None
    end: int | None = None

    def where(self, time: str, *, margin: int = 0) -> str:
        """Return the condition as SQL. time: the expression for a row's time. margin: days by which its folder may be off."""
        terms = [f"twin IN ({_list(self.twins)})"] if self.twins else []
        terms += [f"asset IN ({_list(self.assets)})"] if self.assets else []
        for limit, sign, off in ((self.begin, ">=", -margin), (self.end, "<", margin)):
            if limit is not None:
                terms.append(f"day {sign.replace('<', '<=')} DATE '{iso(limit + off * DAY)[:10]}'")
                terms.append(f"{time} {sign} '{iso(limit)}'")
        return " AND ".join(terms) or "true"


def _quoted(text: str) -> str:
    """Return text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Iterable[str]) -> str:
    return ", ".join(_quoted(text) for text in texts)


class History:
    """A directory of segments. Tables: one for each output (``"odd.score"``), ``events`` (all revisions), ``latest_events``, ``input``.

    Columns of outputs: time, twin, asset, and the channels; of ``input``: time, twin, asset, channel, value, arrival (null where unknown).
    The files are those that are there when it is made: a run may go on beside it. Raises InputError where there is nothing.
    """

    def __init__(self, directory: Path, choice: Choice | None = None) -> None:
        try:
            import duckdb  # noqa: PLC0415 - an extra
        except ImportError:
            raise InputError("history", expected="duckdb", found="not installed", mend="Install twin-engine[history].") from None
        self._error: type[Exception] = duckdb.Error
        self._directory, self._choice = directory, choice or Choice()
        self._files: dict[str, list[Path]] = {}
        for folder in sorted(directory.glob("twin=*/output=*/day=*")):
            if found := files(folder):
                self._files.setdefault(folder.parent.name.removeprefix("output="), []).extend(found)
        self.outputs = sorted(self._files)
        if not self.outputs:
            raise InputError(str(directory), expected="segments of a run (--to parquet:DIR)", found="none", mend="Check the path.")
        self._database = duckdb.connect()
        for output in self.outputs:
            self._database.execute(f'CREATE VIEW "{output}" AS {self._select(output)}')
        if EVENTS in self.outputs:
            newest = "QUALIFY row_number() OVER (PARTITION BY id ORDER BY revision DESC) = 1"
            self._database.execute(f"CREATE VIEW latest_events AS SELECT * FROM {EVENTS} {newest}")

    def _select(self, output: str) -> str:
        """Return the SQL of a table."""
        listed = f"read_parquet([{_list(map(str, self._files[output]))}], hive_partitioning = true, union_by_name = true)"
        if output == EVENTS:
            return f"SELECT * EXCLUDE (output, day) FROM {listed} WHERE {self._choice.where('start')}"
        if output != INPUT:
            columns = "time, twin, asset, * EXCLUDE (time, twin, asset, output, day)"
            return f"SELECT {columns} FROM {listed} WHERE {self._choice.where('time')}"
        each = f'SELECT *, unnest(channels) AS channel, unnest("values") AS samples FROM {listed}'
        columns = (
            "unnest(times) AS time, twin, asset, channel, unnest(samples) AS value, make_timestamp_ns(nullif(arrival, 0)) AS arrival, day"
        )
        return f"SELECT * EXCLUDE (day) FROM (SELECT {columns} FROM ({each})) WHERE {self._choice.where('time', margin=1)}"

    def table(self, output: str = "latest_events") -> Any:
        """Return the rows of an output in order of time, as an Arrow table; raises InputError naming the nearest."""
        known = [*self.outputs, *(["latest_events"] if EVENTS in self.outputs else [])]
        if output not in known:
            raise InputError(f"history in {self._directory}", expected="an output that was kept", found=output, mend=nearest(output, known))
        time = "start, id" if output in {EVENTS, "latest_events"} else "time, twin, asset"
        return self.query(f'SELECT * FROM "{output}" ORDER BY {time}')

    def query(self, sql: str) -> Any:
        """Return what a query gives, as an Arrow table; raises InputError with what DuckDB says."""
        try:
            relation: Any = self._database.sql(sql)
            return relation.to_arrow_table() if relation is not None else pa.table({})
        except self._error as error:
            tables = ", ".join(f'"{name}"' for name in self.outputs)
            raise InputError("--sql", expected=f"a query on the tables {tables}", found=str(error), mend="Mend the query.") from None

    def close(self) -> None:
        """Close the database, which is in memory."""
        self._database.close()


def plain(found: Any) -> Any:
    """Return a table with times as ISO text with ns, maps and lists as text: what CSV and a screen can hold."""
    for i, field in enumerate(found.schema):
        column: Any = found.column(i)
        if pa.types.is_timestamp(field.type):
            ns = column.cast(pa.timestamp("ns", field.type.tz)).cast(pa.int64()).to_pylist()
            texts = [None if time is None else iso(time) for time in ns]
        elif pa.types.is_map(field.type):
            texts = [None if row is None else ", ".join(f"{key} {value:.3g}" for key, value in row) for row in column.to_pylist()]
        elif pa.types.is_nested(field.type):
            texts = [None if row is None else str(row) for row in column.to_pylist()]
        else:
            continue
        found = found.set_column(i, field.name, pa.array(texts, pa.string()))
    return found


def save(found: Any, path: Path) -> None:
    """Write a table to a file whose suffix is one of ``SUFFIXES``; raises SinkError."""
    try:
        if path.suffix == ".csv":
            pc.write_csv(plain(found), path)
        else:
            pq.write_table(found, path)
    except OSError as error:
        raise SinkError(str(path), expected="a file that can be written", found=str(error), mend="Choose another path.") from None
