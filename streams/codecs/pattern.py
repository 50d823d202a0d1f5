"""Topics that name things: ``plant/{asset}/{channel}`` as a subscription, as what a topic says, and as a topic for a name."""

from __future__ import annotations

import re
from typing import TypeAlias

from streams.codecs.base import LONGEST_NAME, RefusedError, named
from streams.uri import nearest
from twin_engine.errors import InputError
from twin_engine.records import Reason

_FIELD = re.compile(r"\{(\w+)\}")
Place: TypeAlias = tuple[str, tuple[str, ...]]  # what a topic names: the asset, or ""; the channel, or nothing
_KNOWN = ("asset", "channel")
_LIMIT = 1 << 17  # topics whose meaning is kept


class Pattern:
    """A topic with names in braces; MQTT's ``+`` (one level) and ``#`` (all that follow, last) mean themselves.

    A level may hold text beside a name (``node-{asset}``). ``{asset}`` alone takes a whole subject, slashes too, as the key of a Kafka
    record. Names other than asset and channel are matched and say nothing. Raises InputError for what cannot be subscribed to.

    subscription: the filter to subscribe to, each level that holds a name as ``+``.
    """

    def __init__(self, text: str) -> None:
        levels = text.split("/")
        self.text = text
        self._check(levels)
        self.names = tuple(_FIELD.findall(text))
        self.subscription = "/".join("+" if _FIELD.search(level) else level for level in levels)
        whole = levels[-1] == "#"
        body = "/".join(map(_level, levels[:-1] if whole else levels))
        tail = "(?:/.*)?" if whole and len(levels) > 1 else ".*" if whole else ""
        self._regex = re.compile("(?P<asset>.+)" if text == "{asset}" else body + tail, re.DOTALL)

    def _check(self, levels: list[str]) -> None:
        """Raise InputError unless this can be subscribed to."""
        place = f"topic pattern {self.text!r}"
        if levels[0] == "$share":
            raise InputError(
                place, expected="a subscription that gets every message", found="a shared one",
                mend="A shared subscription splits one asset's stream over its consumers; subscribe to the topic itself.",
            )  # fmt: skip
        for i, level in enumerate(levels):
            plain = _FIELD.sub("", level)
            lone = level == "+" or (level == "#" and i == len(levels) - 1)
            if not lone and any(c in plain for c in "+#{}\0"):
                raise InputError(
                    place, expected="levels of text, {asset}, {channel}, +, and # as the last", found=level, mend="Write plant/{asset}/#."
                )
        fields = _FIELD.findall(self.text)
        if not self.text or len(set(fields)) != len(fields):
            raise InputError(place, expected="each name once", found=", ".join(fields) or "nothing", mend="Write plant/{asset}/{channel}.")
        near = [name for name in fields if name not in _KNOWN and nearest(name, _KNOWN).startswith("Did")]
        if near:
            raise InputError(place, expected="{asset} or {channel}", found=near[0], mend=nearest(near[0], _KNOWN))

    def match(self, topic: str) -> dict[str, str] | None:
        """Return what a topic names, or None where it is not of this pattern."""
        match = self._regex.fullmatch(topic)
        return match.groupdict() if match else None

    def format(self, **names: str) -> str:
        """Return the topic of a name; names that the pattern lacks are left out. Raises InputError."""
        if self.text == "{asset}":
            return names["asset"]
        for name, value in names.items():
            if name in self.names and (not value or any(c in value for c in "/+#\0")):
                raise InputError(f"{name} {value!r}", expected="a level of a topic", found=value, mend="Leave out / + # in names.")
        topic = _FIELD.sub(lambda match: names.get(match[1], "+"), self.text)
        if "+" in topic or "#" in topic:
            mend = "Publish to a pattern of {asset} and {channel} only."
            raise InputError(f"topic pattern {self.text!r}", expected="a topic to publish to", found="a filter", mend=mend)
        return topic


def _level(level: str) -> str:
    """Return the regular expression of one level."""
    if level == "+":
        return "[^/]*"
    parts = _FIELD.split(level)  # text and names by turns
    return "".join(f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))


class Topics:
    """What topics say, kept for those seen (at most _LIMIT of them). asset: of messages that name none.

    known: topic -> asset (``""`` where it names none) and channels (one, or none).
    """

    def __init__(self, pattern: Pattern, asset: str = "") -> None:
        self.pattern, self._asset = pattern, asset
        self.known: dict[str, Place] = {}

    def find(self, topic: str) -> Place:
        """Return the asset and the channels that a topic names; raises RefusedError where it is of another form."""
        names = self.pattern.match(topic)
        if names is None:
            raise RefusedError(Reason.MALFORMED, f"the topic is not of the pattern {self.pattern.text}")
        asset, channel = names.get("asset", self._asset), names.get("channel")
        place: Place = asset and named(asset, "asset"), (named(channel, "channel"),) if channel else ()
        if len(self.known) >= _LIMIT:
            self.known.clear()
        if len(topic) <= LONGEST_NAME:
            self.known[topic] = place
        return place
