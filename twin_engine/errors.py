"""Errors for people: the place, what was expected, what was found, how to mend it."""

from __future__ import annotations


class TwinError(Exception):
    """Something a person can mend. Printed as it is; a traceback would add nothing.

    place: where it went wrong (``"twin 'x', stage 'white'"``). expected, found: the two sides of the
    mismatch. mend: what to do about it, an imperative sentence.
    """

    exit_code = 2

    def __init__(self, place: str, *, expected: str, found: str, mend: str = "") -> None:
        self.place, self.expected, self.found, self.mend = place, expected, found, mend
        super().__init__(f"{place}: expected {expected}, found {found}." + (f" {mend}" if mend else ""))


class DefinitionError(TwinError):
    """A twin, stage or stream is defined in a way that cannot work."""

    exit_code = 3


class InputError(TwinError):
    """A source cannot be opened or is not what it was said to be."""

    exit_code = 4


class SnapshotError(TwinError):
    """A snapshot is damaged, of an unknown version, or of another twin."""

    exit_code = 5


class SinkError(TwinError):
    """A sink cannot be opened or written."""

    exit_code = 6
