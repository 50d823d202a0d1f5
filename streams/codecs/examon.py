"""ExaMon's topics and payloads, unmodified: ``org/O/cluster/C/node/N/plugin/P/chnl/data/METRIC`` with ``value;epoch_seconds``.

Levels alternate key and value; the last is the metric; ``/ + #`` and blanks in them are written as in a URL. The asset is the value of
``node`` (or of the keys that the option ``asset`` names, joined by a slash, ``node/core`` for one). The channel is what follows
``chnl/data``, without the keys that name the asset: ``temp``, ``core/0/temp``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from urllib.parse import quote, unquote

from streams.codecs.base import LONGEST_NAME, RefusedError, named, number, single, utf8
from streams.codecs.pattern import Pattern, Place
from streams.codecs.when import Times
from streams.uri import Uri
from twin_engine.errors import InputError
from twin_engine.records import Reading, Reason, Record, Reject

_LIMIT = 1 << 17  # topics kept: a thousand nodes of a hundred metrics
_PREFIX = "org/twin/cluster/twin"


class Examon:
    """The format. Options: asset (the keys that name it, node), unit (of times, s).

    What is written has the pattern's topic where the pattern names the asset (up to and with ``chnl/data``), else one of its own.
    """

    def __init__(self, pattern: Pattern, options: Uri, asset: str) -> None:
        self._pattern, self._default = pattern, asset
        self._times = Times(options.options.get("unit", "s"), options.text)
        self._keys = tuple(options.options.get("asset", "node").split("/"))
        self._known: dict[str, Place] = {}

    def read(self, raw: bytes, record: Record) -> Sequence[Reading | Reject]:
        """See the module."""
        asset, channels = self._known.get(record.subject) or self._learn(record.subject)
        value, _, stamp = utf8(raw).rpartition(";")
        try:
            ns = self._times.text(stamp.strip())
        except ValueError as error:
            raise RefusedError(Reason.MALFORMED, f"{error}; value;epoch_seconds is meant") from None
        return single(asset, channels, ns, number(value), "", record)

    def _learn(self, topic: str) -> Place:
        """Return the asset and the channel of a topic; raises RefusedError."""
        *levels, metric = topic.removeprefix("/").split("/")
        keys, values = levels[::2], levels[1::2]
        if len(keys) != len(values) or "chnl" not in keys or not metric:
            raise RefusedError(Reason.MALFORMED, "the topic is not of keys and values by turns, chnl/data, and a metric")
        at = keys.index("chnl")
        if values[at] != "data":
            raise RefusedError(Reason.MALFORMED, f"chnl/{values[at][:40]} is no data")
        said = dict(zip(keys, values, strict=True))
        naming = [unquote(said[key]) for key in self._keys if said.get(key)]
        if len(naming) < len(self._keys) and not self._default:
            raise RefusedError(Reason.MALFORMED, f"the topic has no {'/'.join(self._keys)[:80]}, which names the asset")
        asset = "/".join(naming) if len(naming) == len(self._keys) else self._default
        rest = [f"{key}/{value}" for key, value in zip(keys[at + 1 :], values[at + 1 :], strict=True) if key not in self._keys]
        found = named(asset, "asset"), (named("/".join(map(unquote, [*rest, metric])), "channel"),)
        if len(self._known) >= _LIMIT:
            self._known.clear()
        if len(topic) <= LONGEST_NAME:
            self._known[topic] = found
        return found

    def write(self, reading: Reading) -> Sequence[tuple[str, bytes]]:
        """Return a message a sample; samples that are missing are left out, times are to the ms, as ExaMon's are."""
        key, *more = self._keys
        if more:
            raise InputError("examon", expected="assets named by one key", found="/".join(self._keys), mend="Leave out the option asset.")
        node = quote(reading.asset, safe="")
        if "asset" in self._pattern.names:
            head = self._pattern.format(asset=node).rstrip("/")
        else:
            head = f"{_PREFIX}/{key}/{node}/plugin/twin/chnl/data"
        messages: list[tuple[str, bytes]] = []
        for k, ns in enumerate(reading.times.tolist()):
            stamp = f"{ns // 10**9}.{ns % 10**9 // 10**6:03d}"
            for name, value in zip(reading.channels, reading.values[:, k].tolist(), strict=True):
                if math.isfinite(value):
                    topic = "/".join(quote(level, safe=":") for level in name.split("/"))
                    messages.append((f"{head}/{topic}", f"{value!r};{stamp}".encode()))
        return messages
