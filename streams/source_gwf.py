"""Frame files of gravitational-wave detectors as a source: one channel, or several of different rates, second by second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from streams.context import Context
from streams.frames import Vector, read_data, read_vectors
from streams.samples import even_times
from streams.uri import Uri, nearest
from twin_engine.clock import NS, gps_to_ns
from twin_engine.errors import InputError
from twin_engine.ports import Float, Int
from twin_engine.records import Item, Position, Reading


def open_gwf(uri: Uri, context: Context) -> GwfSource:
    """Open ``gwf:FILE?channel=FRAMENAME,FRAMENAME=NAME``.

    channel: names in the frame, each with the twin's name for it after ``=``. Not given: the only channel, or the only one that ends in
    STRAIN. A single channel without a name is called as the twin's first. The asset is the detector's prefix (``H1`` of ``H1:STRAIN``)
    where none is given.
    """
    uri.only("channel")
    path = uri.existing()
    vectors = read_vectors(path)
    known = list(dict.fromkeys(vector.name for vector in vectors))
    asked = [text.partition("=")[::2] for text in uri.names("channel")] or [(_only(uri, known), "")]
    for name, _ in asked:
        if name not in known:
            raise InputError(
                uri.text, expected=f"a channel {name!r}", found=", ".join(known[:20]) or "no channels", mend=nearest(name, known)
            )
    single = context.channels[0] if context.channels and len(asked) == 1 else ""
    tracks = {called or single or name: [v for v in vectors if v.name == name] for name, called in asked}
    return GwfSource(uri, context.asset or asked[0][0].partition(":")[0], tracks)


def _only(uri: Uri, known: Sequence[str]) -> str:
    """Return the channel that is meant where none is named."""
    strain = [name for name in known if name.upper().endswith("STRAIN")] if len(known) > 1 else list(known)
    if len(strain) != 1:
        found = ", ".join(known[:20]) or "no channels"
        raise InputError(uri.text, expected="one channel of strain", found=found, mend="Name the channels with ?channel=.")
    return strain[0]


class GwfSource:
    """Readings of a second, one a channel in turn. The position is the count of (second, channel) pairs that are done."""

    live = False

    def __init__(self, uri: Uri, asset: str, tracks: dict[str, list[Vector]]) -> None:
        self._uri, self._asset, self._tracks = uri, asset, tracks
        self._held: dict[str, tuple[Vector, NDArray[np.generic]]] = {}
        every = [vector for track in tracks.values() for vector in track]
        self._start = min(vector.start for vector in every)
        self._stop = max(vector.start + round(vector.count * vector.period * NS) for vector in every)

    @property
    def assets(self) -> list[str]:
        """The one asset."""
        return [self._asset]

    def items(self, position: Position) -> Iterator[Item]:
        """Yield from the position on; a second that is in no frame is passed over."""
        names = list(self._tracks)
        seconds = -(-(self._stop - self._start) // NS)
        for k in range(int(position or 0), seconds * len(names)):
            name = names[k % len(names)]
            begin = self._start + k // len(names) * NS
            parts = [self._part(name, vector, begin) for vector in self._tracks[name]]
            parts = [part for part in parts if len(part[0])]
            if parts:
                times, values = (np.concatenate(column) for column in zip(*parts, strict=True))
                yield Reading(self._asset, (name,), times, values[None], position=k + 1, units=())

    def _part(self, name: str, vector: Vector, begin: int) -> tuple[Int, Float]:
        """Return times and values of a vector's samples in the second from ``begin`` (GPS, ns) on."""
        rate = Fraction(1 / vector.period).limit_denominator(10**6)
        first = max(0, -(-(begin - vector.start) * rate.numerator // (NS * rate.denominator)))
        stop = min(vector.count, -(-(begin + NS - vector.start) * rate.numerator // (NS * rate.denominator)))
        if first >= stop:
            return np.zeros(0, np.int64), np.zeros(0)
        if name not in self._held or self._held[name][0] != vector:
            self._held[name] = (vector, read_data(self._uri.file, vector))
        values = self._held[name][1][first:stop].astype(np.float64)
        return even_times(gps_to_ns(vector.start), rate, first, stop), values

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: a file keeps itself."""

    def close(self) -> None:
        """Let go of the samples that are held."""
        self._held.clear()
