"""Strain from the Gravitational Wave Open Science Center: HDF5 files with ``strain/Strain``, ``meta/GPSstart`` and ``quality``.

Format: https://gwosc.org/s/events/GW150914/GW150914_tutorial.html. The file is read piece by piece; a second whose quality bits are not
set is NaN.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from streams.context import Context
from streams.samples import Samples, even_times
from streams.uri import Uri, nearest
from twin_engine.clock import NS, gps_to_ns
from twin_engine.errors import InputError
from twin_engine.ports import Bool, Float, Int


def open_gwosc(uri: Uri, context: Context) -> Samples:
    """Open ``gwosc:FILE?channel=NAME&quality=DATA,CBC_CAT1&block=SECONDS``.

    channel: what the strain is called (the twin's first channel, or ``strain``). quality: names of the bits that every second must have
    (``DATA``).
    """
    uri.only("channel", "quality", "block")
    path = uri.existing()
    try:
        import h5py  # noqa: PLC0415  (an extra)
    except ImportError:
        raise InputError(uri.text, expected="h5py", found="not installed", mend="Install twin-engine[gw].") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(uri.text, expected="an HDF5 file", found=str(error), mend="Download it again, or check its kind.") from None
    try:
        return _samples(uri, context, file)
    except BaseException:
        file.close()
        raise


def _samples(uri: Uri, context: Context, file: Any) -> Samples:
    """Return the source over an open file."""
    for name in ("strain/Strain", "meta/GPSstart", "meta/Duration"):
        if name not in file:
            raise InputError(
                uri.text, expected=f"a GWOSC file with {name}", found=f"only {', '.join(file)}", mend="Choose a GWOSC strain file."
            )
    strain = file["strain/Strain"]
    count, duration = len(strain), int(file["meta/Duration"][()])
    if duration < 1 or count % duration:
        raise InputError(uri.text, expected="whole samples a second", found=f"{count} samples in {duration} s", mend="Choose a whole file.")
    rate = Fraction(count // duration)
    start = gps_to_ns(int(file["meta/GPSstart"][()]) * NS)
    good = _good_seconds(uri, file, duration)

    def read(first: int, stop: int) -> tuple[Int, Float]:
        try:
            values = np.asarray(strain[first:stop], np.float64)
        except OSError as error:
            raise InputError(uri.text, expected="strain that can be read", found=str(error), mend="Download the file again.") from None
        values[~good[np.arange(first, stop) // int(rate)]] = np.nan
        return even_times(start, rate, first, stop), values[None]

    detector = file["meta/Detector"][()].decode() if "meta/Detector" in file else uri.file.stem
    channel = uri.options.get("channel") or (context.channels or ("strain",))[0]
    block = max(1, round(uri.number("block", 1.0) * float(rate)))
    return Samples(context.asset or detector, (channel,), count, block, read, release=file.close)


def _good_seconds(uri: Uri, file: Any, duration: int) -> Bool:
    """Return ``(second,)`` bool: whether all the quality bits that were asked for are set."""
    asked = uri.names("quality")
    if "quality/simple/DQmask" not in file:
        if asked:
            raise InputError(uri.text, expected="quality/simple/DQmask", found="no quality in the file", mend="Leave out quality=.")
        return np.ones(duration, np.bool_)
    mask = np.asarray(file["quality/simple/DQmask"])
    names = [name.decode() for name in np.asarray(file["quality/simple/DQShortnames"])]
    good = np.ones(len(mask), np.bool_)
    for name in asked or ("DATA",):
        if name not in names:
            raise InputError(f"quality={name} of {uri.text}", expected="a quality bit", found=name, mend=nearest(name, names))
        good &= (mask >> names.index(name)) & 1 == 1
    return np.repeat(good, duration // len(good)) if len(good) else np.ones(duration, np.bool_)
