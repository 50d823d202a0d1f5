"""Readings as an edge node of Sparkplug B would publish them, an asset as a device."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from streams.codecs.base import pieces
from streams.codecs.sparkplug_payload import DOUBLE, UINT64, Metric, Payload, write_payload
from twin_engine.errors import InputError
from twin_engine.records import Reading

_WIDTH = 40  # bytes of a metric


class Writer:
    """One edge node. It counts its messages and says a device's aliases before it uses them."""

    def __init__(self, group: str, edge: str, session: int = 0) -> None:
        self._group, self._edge, self._session = group, edge, session
        self._seq = itertools.count()
        self._aliases: dict[str, dict[str, int]] = {}
        self._next = 0
        self._born = False

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return the messages of a reading: a DDATA, behind an NBIRTH and a DBIRTH where they are due. Raises InputError."""
        if not reading.asset or any(c in reading.asset for c in "/+#\0"):
            raise InputError(
                "sparkplug", expected="a device that is a level of a topic", found=repr(reading.asset), mend="Leave out / + #."
            )
        messages: list[tuple[str, bytes]] = []
        if not len(reading.times):
            return messages
        if not self._born:
            messages.append(self._birth(int(reading.times[0]) // 10**6))
        units = reading.units or ("",) * len(reading.channels)
        aliases = self._aliases.setdefault(reading.asset, {})
        if not aliases.keys() >= set(reading.channels):
            for name in reading.channels:
                if name not in aliases:
                    aliases[name], self._next = self._next, self._next + 1
            said = dict(zip(reading.channels, units, strict=True))
            metrics = [Metric(name, alias, None, DOUBLE, null=True, unit=said.get(name, "")) for name, alias in aliases.items()]
            messages.append(self._message("DBIRTH", reading.asset, int(reading.times[0]) // 10**6, metrics))
        for part in pieces(reading, _WIDTH):
            metrics = [
                Metric(alias=aliases[name], timestamp=ns // 10**6, value=value)
                for ns, row in zip(part.times.tolist(), part.values.T.tolist(), strict=True)
                for name, value in zip(part.channels, row, strict=True)
            ]
            messages.append(self._message("DDATA", reading.asset, int(part.times[-1]) // 10**6, metrics))
        return messages

    def _birth(self, stamp: int) -> tuple[str, bytes]:
        """Return the NBIRTH, with which the sequence begins."""
        self._born = True
        session = Metric("bdSeq", None, stamp, UINT64, integer=self._session)
        return self._message("NBIRTH", "", stamp, [session])

    def _message(self, kind: str, device: str, stamp: int, metrics: list[Metric]) -> tuple[str, bytes]:
        """Return a message with the next sequence number."""
        topic = f"spBv1.0/{self._group}/{kind}/{self._edge}" + (f"/{device}" if device else "")
        return topic, write_payload(Payload(stamp, next(self._seq) % 256, metrics))
