"""Arrays in a NumPy ``.npz`` file, with a time array or an even rate."""

from __future__ import annotations

import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.context import Context
from streams.samples import Samples, even_times
from streams.times import from_numbers
from streams.uri import Uri, nearest
from twin_engine.clock import hertz, parse_iso
from twin_engine.errors import InputError
from twin_engine.ports import Float, Int

_BLOCK = 8192
_START = "2000-01-01T00:00:00Z"


def open_npz(uri: Uri, context: Context) -> Samples:
    """Open ``npz:FILE?value=ARRAY,ARRAY&time=ARRAY&unit=s`` or ``npz:FILE?value=ARRAY&rate=HZ&start=ISO``.

    value: arrays ``(sample,)`` or ``(sample, channel)``; row=K takes row K of the first axis before that. time: an array of
    ``datetime64``, or of numbers in ``unit``. rate: Hz, of even samples from ``start`` (2000-01-01 when not given). channel: names, one
    each (default: the twin's where it has as many, else the array's name, with a number where it has several columns).
    """
    uri.only("value", "time", "unit", "rate", "start", "row", "channel")
    path = uri.existing()
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = uri.names("value") or tuple(name for name in arrays.files if name != uri.options.get("time", "time"))
            columns, channels = _columns(uri, arrays, names)
            times = _times(uri, arrays, columns.shape[1])
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(uri.text, expected="a .npz file of plain arrays", found=str(error), mend="Save it with numpy.savez.") from None
    given = uri.names("channel")
    if given and len(given) != len(channels):
        raise InputError(
            uri.text, expected=f"{len(channels)} names in channel=", found=str(len(given)), mend=f"The columns are {', '.join(channels)}."
        )
    if not given and len(channels) == len(context.channels) and not set(channels) & set(context.channels):
        given = context.channels

    def read(first: int, stop: int) -> tuple[Int, Float]:
        return times(first, stop), np.ascontiguousarray(columns[:, first:stop])

    return Samples(context.asset or path.stem, given or channels, columns.shape[1], _BLOCK, read)


def _array(uri: Uri, arrays: Any, name: str) -> NDArray[Any]:
    """Return an array by name, or raise naming the nearest."""
    if name not in arrays.files:
        raise InputError(
            uri.text, expected=f"an array {name!r}", found=", ".join(arrays.files) or "no arrays", mend=nearest(name, arrays.files)
        )
    return arrays[name]


def _columns(uri: Uri, arrays: Any, names: tuple[str, ...]) -> tuple[Float, tuple[str, ...]]:
    """Return values ``(channel, sample)`` and a name for each channel."""
    parts: list[Float] = []
    channels: list[str] = []
    for name in names:
        array = _array(uri, arrays, name)
        if "row" in uri.options and array.ndim > 1:
            row = int(uri.number("row", 0))
            if not 0 <= row < len(array):
                raise InputError(uri.text, expected=f"row below {len(array)}", found=str(row), mend="Choose a row that is there.")
            array = array[row]
        if array.ndim not in {1, 2} or array.dtype.kind not in "fiub":
            raise InputError(
                f"array {name!r} of {uri.text}",
                expected="numbers, (sample,) or (sample, channel)",
                found=f"{array.dtype} {array.shape}",
                mend="Name the arrays with value=, and a row of a stack with row=.",
            )
        parts.append(np.atleast_2d(np.asarray(array, np.float64).T))
        channels += [name] if array.ndim == 1 else [f"{name}{i}" for i in range(array.shape[1])]
    if not parts or len({part.shape[1] for part in parts}) > 1:
        sizes = ", ".join(f"{name} {part.shape[1]}" for name, part in zip(names, parts, strict=True))
        raise InputError(uri.text, expected="arrays of one length", found=sizes or "no arrays", mend="Name the arrays with value=.")
    return np.concatenate(parts), tuple(channels)


def _times(uri: Uri, arrays: Any, count: int) -> Any:
    """Return ``(first, stop) -> times``."""
    if "rate" in uri.options:
        rate = hertz(uri.options["rate"]) if not uri.options["rate"].replace(".", "").isdigit() else hertz(uri.number("rate", 0))
        start = parse_iso(uri.options.get("start", _START))
        return lambda first, stop: even_times(start, rate, first, stop)
    if "time" not in uri.options and "time" not in arrays.files:
        raise InputError(
            uri.text, expected="time= or rate=", found="neither", mend="Add ?rate=4096 (Hz), or ?time=NAME of an array of times."
        )
    array = _array(uri, arrays, uri.options.get("time", "time"))
    if array.shape != (count,):
        raise InputError(uri.text, expected=f"{count} times", found=str(array.shape), mend="Give one time for each sample.")
    kept = from_numbers(array, uri.options.get("unit", "s"), uri.text)
    return lambda first, stop: kept[first:stop]
