"""Names of assets, listed, in ranges (``turbine-[001-100]``) or in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from twin_engine.errors import InputError

MOST = 1_000_000
_RANGE = re.compile(r"(.*?)\[(\d+)-(\d+)\](.*)", re.DOTALL)


def expand(names: Iterable[str], file: Path | None = None) -> list[str]:
    """Return the names, each range written out with the width of its first number; those of a file (one a line) after them.

    Raises InputError for a range that runs backwards or is too long, and for a file that cannot be read.
    """
    given = list(names)
    if file is not None:
        try:
            given += [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(str(file), expected="a file of names, one a line", found=str(error), mend="Check the path.") from None
    return list(dict.fromkeys(name for one in given for name in _names(one)))


def _names(name: str) -> list[str]:
    match = _RANGE.fullmatch(name)
    if match is None:
        return [name]
    first, last = int(match[2]), int(match[3])
    if not first <= last < first + MOST:
        raise InputError(f"asset {name!r}", expected=f"a range upwards of at most {MOST}", found=f"{first} to {last}", mend="Mend it.")
    return [f"{match[1]}{k:0{len(match[2])}d}{rest}" for k in range(first, last + 1) for rest in _names(match[4])]
