"""What messages mean: one module a format, each both ways."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from streams.codecs.base import Guard
from streams.codecs.pattern import Pattern
from streams.uri import Uri, nearest
from twin_engine.errors import InputError
from twin_engine.records import Codec

__all__ = ["CODECS", "OPTIONS", "Pattern", "open_codec"]

CODECS = {
    "arrakis": "arrakis:Arrakis",
    "arrow": "arrow:Arrow",
    "examon": "examon:Examon",
    "json": "json_:Json",
    "line_protocol": "line_protocol:LineProtocol",
    "senml": "senml:SenML",
    "sparkplug": "sparkplug:Sparkplug",
}
OPTIONS = {
    "arrakis": ("channels",),
    "arrow": ("unit", "time"),
    "examon": ("unit", "asset"),
    "json": ("unit", "time", "value", "asset"),
    "line_protocol": ("unit", "asset", "name", "measurement"),
    "senml": ("form",),
    "sparkplug": ("asset", "group", "edge"),
}


def open_codec(name: str, pattern: str | Pattern = "#", options: Mapping[str, str] | None = None, *, asset: str = "") -> Codec:
    """Return the codec of a format. See docs/reference/codecs.md.

    pattern: what a record's subject names, as a topic with ``{asset}`` and ``{channel}``, or ``{asset}`` alone for a key. options: of
    the format, see OPTIONS. asset: of messages that name none. Raises InputError for an unknown name, option or pattern.
    """
    if name not in CODECS:
        raise InputError(f"codec {name!r}", expected="a known codec", found=name, mend=nearest(name, CODECS))
    said = Uri(f"codec {name}", name, "", dict(options or {}))
    said.only(*OPTIONS[name])
    module, _, kind = CODECS[name].partition(":")
    form: Any = getattr(importlib.import_module(f"streams.codecs.{module}"), kind)
    made = form(pattern if isinstance(pattern, Pattern) else Pattern(pattern), said, asset)
    return cast("Codec", Guard(made, made if hasattr(made, "recall") else None))
