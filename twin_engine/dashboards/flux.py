"""Queries of InfluxDB in Flux, on points as ``streams.influx_points`` writes them.

``v.defaultBucket``, ``v.timeRangeStart``, ``v.timeRangeStop`` and ``v.windowPeriod`` are Grafana's, for dashboards and alert rules alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

HEALTH = "twin_engine"  # the measurement of the engine's own figures
ASSET = 'r.asset == "${asset}"'  # the dashboard's variable


def text(value: str) -> str:
    """Return a string of Flux."""
    return json.dumps(value, ensure_ascii=False)


def any_of(column: str, values: Sequence[str]) -> str:
    """Return the condition that a column has one of the values."""
    return "(" + " or ".join(f"r[{text(column)}] == {text(value)}" for value in values) + ")"


def points(measurements: Sequence[str], *conditions: str) -> str:
    """Return the points of measurements within the dashboard's time range."""
    where = " and ".join((any_of("_measurement", measurements), *conditions))
    span = "|> range(start: v.timeRangeStart, stop: v.timeRangeStop)"
    return f"from(bucket: v.defaultBucket)\n  {span}\n  |> filter(fn: (r) => {where})"


def windowed(source: str, function: str, *columns: str, window: str = "v.windowPeriod") -> str:
    """Return a series for each value of the columns, one point a window."""
    kept = ", ".join(text(column) for column in ("_time", "_value", *columns))
    return f"{source}\n  |> aggregateWindow(every: {window}, fn: {function}, createEmpty: false)\n  |> keep(columns: [{kept}])"


def events(measurements: Sequence[str], *conditions: str) -> str:
    """Return events as rows, fields as columns, each in its highest revision."""
    keys = ", ".join(map(text, ("_time", "_measurement", "asset", "stage", "kind", "channel")))
    return (
        f"{points(measurements, 'exists r.kind', *conditions)}\n"
        f'  |> pivot(rowKey: [{keys}], columnKey: ["_field"], valueColumn: "_value")\n'
        '  |> group(columns: ["id"])\n  |> sort(columns: ["revision"])\n  |> last(column: "revision")\n  |> group()'
    )


def listed(measurements: Sequence[str], columns: Sequence[str], *conditions: str, most: int = 100) -> str:
    """Return the newest events with the columns named, the time as ``time`` and the measurement as ``twin``."""
    kept = ", ".join(map(text, ("time", *columns)))
    return (
        f"{events(measurements, *conditions)}\n"
        '  |> rename(columns: {_time: "time", _measurement: "twin"})\n'
        f'  |> keep(columns: [{kept}])\n  |> sort(columns: ["time"], desc: true)\n  |> limit(n: {most})'
    )


def counted(measurements: Sequence[str], *columns: str, conditions: Sequence[str] = ()) -> str:
    """Return how many events have ended in each window, a series for each value of the columns; of all where there are none."""
    group = ", ".join(map(text, columns))
    final = f"r._field == {text('final')}"
    source = f"{points(measurements, 'exists r.kind', final, *conditions)}\n  |> filter(fn: (r) => r._value)"
    return windowed(f"{source}\n  |> group(columns: [{group}])", "count", *columns)


def values_of(measurement: str, tag: str) -> str:
    """Return the values of a tag, for a variable."""
    where = f"(r) => r._measurement == {text(measurement)}"
    return (
        f'import "influxdata/influxdb/schema"\nschema.tagValues(bucket: v.defaultBucket, tag: {text(tag)}, predicate: {where}, start: -30d)'
    )
