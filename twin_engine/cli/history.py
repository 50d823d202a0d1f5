"""``twin-engine history``: what a run kept, as a table on the screen or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streams.history import EVENTS, SUFFIXES, Choice, History, plain, save
from twin_engine.cli.report import table
from twin_engine.clock import parse_iso
from twin_engine.errors import SinkError


def show(
    directory: Path,
    *,
    sql: str | None,
    output: str | None,
    twins: Sequence[str],
    assets: Sequence[str],
    begin: str | None,
    end: str | None,
    target: Path | None,
) -> None:
    """Print or save a query's rows, an output's, or (neither given) the events; where none are kept, say what is. Raises TwinError."""
    if target and target.suffix not in SUFFIXES:
        raise SinkError("--save", expected=f"a name that ends in {' or '.join(SUFFIXES)}", found=str(target), mend="Choose one of these.")
    history = History(directory, Choice(twins, assets, parse_iso(begin) if begin else None, parse_iso(end) if end else None))
    try:
        if not (sql or output) and EVENTS not in history.outputs:
            table(("output",), [(name,) for name in history.outputs])
            return
        found: Any = history.query(sql) if sql else history.table(output or "latest_events")
        if target:
            save(found, target)
            print(f"{found.num_rows} rows in {target}")
        else:
            rows: list[dict[str, Any]] = plain(found).to_pylist()
            table(found.column_names, [[_cell(value) for value in row.values()] for row in rows])
    finally:
        history.close()


def _cell(value: object) -> str:
    """Return a cell as text."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
