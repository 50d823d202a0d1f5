"""Tables: which column is the time, which are values, which is the asset; and rows into readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streams.context import Context
from streams.uri import Uri, nearest
from twin_engine.errors import InputError
from twin_engine.ports import Float, Int
from twin_engine.records import Reading, Source

OPTIONS = ("time", "unit", "value", "asset")
_TIME_NAMES = ("time", "timestamp", "datetime", "date_time", "ts", "date")


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of the columns. values: index of each value column; channels: what each is called; asset: index, or -1 for one asset."""

    time: int
    values: tuple[int, ...]
    channels: tuple[str, ...]
    asset: int = -1

    @classmethod
    def choose(cls, uri: Uri, context: Context, names: Sequence[str], numeric: Sequence[int]) -> Layout:
        """Return the layout that ``time=``, ``value=COLUMN,COLUMN:CHANNEL`` and ``asset=`` ask for.

        Without ``time=``, a column called time, timestamp, datetime, date or ts (any case). Without ``value=``, the columns called as the
        twin's channels; where the twin's channels are not known, all that are numeric. A single value column feeds the channel of a twin
        that has just one. Raises InputError.
        """
        time = _column(uri, names, uri.options["time"]) if "time" in uri.options else _default_time(uri, names)
        asset = _column(uri, names, uri.options["asset"]) if "asset" in uri.options else -1
        values: dict[str, int] = {}
        for text in uri.names("value"):
            column, _, channel = (text, "", "") if text in names else text.rpartition(":") if ":" in text else (text, "", "")
            values[channel or column] = _column(uri, names, column)
        wanted = context.channels
        if not values:
            rest = [i for i in numeric if i not in {time, asset}]
            values = {names[i]: i for i in rest if not wanted or names[i] in wanted}
            if not values and len(wanted) == len(rest) == 1:
                values = {wanted[0]: rest[0]}
        if not values:
            found = ", ".join(names)
            mend = "Say which with ?value=COLUMN:CHANNEL" + (f"; the channels are {', '.join(wanted[:20])}." if wanted else ".")
            raise InputError(f"columns of {uri.text}", expected="a column for a channel of the twin", found=found, mend=mend)
        if len(values) == 1 and len(wanted) == 1:
            values = dict(zip(wanted, values.values(), strict=True))
        return cls(time, tuple(values.values()), tuple(values), asset)


def _column(uri: Uri, names: Sequence[str], name: str) -> int:
    """Return the index of a column, or raise naming the nearest."""
    if name not in names:
        raise InputError(f"columns of {uri.text}", expected=f"a column {name!r}", found=", ".join(names[:20]), mend=nearest(name, names))
    return list(names).index(name)


def _default_time(uri: Uri, names: Sequence[str]) -> int:
    """Return the index of the column that is called a time."""
    lower = [name.strip().lower() for name in names]
    for name in _TIME_NAMES:
        if name in lower:
            return lower.index(name)
    raise InputError(
        f"columns of {uri.text}", expected="a time column", found=", ".join(names[:20]), mend="Say which one with ?time=COLUMN."
    )


def split_assets(
    assets: Sequence[str] | NDArray[np.str_] | None, default: str, channels: tuple[str, ...], times: Int, values: Float
) -> list[Reading]:
    """Return one reading an asset, assets in order of first appearance, samples in order. values: ``(channel, sample)``."""
    if not len(times):
        return []
    if assets is None:
        return [Reading(default, channels, times, np.ascontiguousarray(values))]
    names, first, inverse = np.unique(np.asarray(assets), return_index=True, return_inverse=True)
    readings: list[Reading] = []
    for place in np.argsort(first):
        mine = inverse == place
        readings.append(Reading(str(names[place]), channels, times[mine], np.ascontiguousarray(values[:, mine])))
    return readings


def scan_assets(source: Source) -> list[str]:
    """Return the names of the assets in a recording, in order of first appearance."""
    return list(dict.fromkeys(item.asset for item in source.items(None) if isinstance(item, Reading)))
