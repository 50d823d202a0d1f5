"""Addresses of sources and sinks: ``scheme:path?option=value&option=value``, or a bare path whose suffix says the scheme."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from twin_engine.errors import InputError, TwinError

_SCHEME = re.compile(r"([a-z][a-z0-9]+):(.*)", re.DOTALL)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return what to do about a name that is not among the known ones: the nearest of them, or all."""
    names = sorted(known)
    by_lower = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"Did you mean {by_lower[close[0]]!r}?" if close else f"Known: {', '.join(names) or 'none'}."


@dataclass(frozen=True, slots=True)
class Uri:
    """A parsed address. error: the kind of error that a mistake in it raises."""

    text: str
    scheme: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    error: type[TwinError] = InputError

    @property
    def file(self) -> Path:
        """The path as a file name, ``~`` expanded."""
        return Path(self.path).expanduser()

    def only(self, *known: str) -> None:
        """Raise unless every option is one of the known ones."""
        for name in self.options:
            if name not in known:
                raise self.error(
                    f"option {name!r} of {self.text}", expected="an option of this scheme", found=name, mend=nearest(name, known)
                )

    def existing(self) -> Path:
        """Return the path of a file that is there and can be read, or raise."""
        path = self.file
        if not path.is_file():
            siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            close = difflib.get_close_matches(path.name, siblings, n=1)
            mend = f"Did you mean {str(path.parent / close[0])!r}?" if close else "Check the path."
            raise self.error(self.text, expected="a file", found="a directory" if path.is_dir() else "no such file", mend=mend)
        return path

    def number(self, name: str, default: float) -> float:
        """Return an option as a number."""
        text = self.options.get(name)
        try:
            return default if text is None else float(text)
        except ValueError:
            raise self.error(f"option {name!r} of {self.text}", expected="a number", found=repr(text), mend=f"Write {name}=1.") from None

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        """Return an option that must be one of a few words."""
        text = self.options.get(name, default)
        if text not in allowed:
            raise self.error(f"option {name!r} of {self.text}", expected=" or ".join(allowed), found=text, mend=nearest(text, allowed))
        return text

    def names(self, name: str) -> tuple[str, ...]:
        """Return an option as a list of names cut at commas (empty when it is not given)."""
        return tuple(part for part in self.options.get(name, "").split(",") if part)


def parse(text: str, schemes: Collection[str], suffixes: Mapping[str, str], error: type[TwinError]) -> Uri:
    """Return the parts of an address.

    suffixes: file suffix -> scheme, for bare paths. Raises ``error`` for an unknown scheme or suffix, naming the nearest.
    """
    match = _SCHEME.fullmatch(text)
    scheme, rest = (match[1], match[2]) if match else ("", text)
    path, _, query = rest.partition("?")
    if not match:
        name = path.lower().removesuffix(".gz")
        scheme = next((suffixes[s] for s in suffixes if name.endswith(s)), "")
        if not scheme and Path(path).is_dir():
            scheme = suffixes.get("/", "")
        if not scheme:
            raise error(text, expected=f"scheme:path, or a path that ends in {', '.join(suffixes)}", found=text, mend="Name the scheme.")
    if scheme not in schemes:
        raise error(text, expected="a known scheme", found=scheme, mend=nearest(scheme, schemes))
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        options[unquote(name)] = unquote(value)
    return Uri(text, scheme, unquote(path).removeprefix("//"), options, error)
