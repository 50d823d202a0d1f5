"""Secrets that an address names: a variable of the environment, or a file. Never in the address itself."""

from __future__ import annotations

import os
from pathlib import Path

from streams.uri import Uri


def secret(uri: Uri, place: str, kinds: tuple[str, ...] = ("password",)) -> str | None:
    """Return what ``KIND_file`` or ``KIND_env`` of an address names now (it may be renewed), None where neither is given.

    Raises the address's kind of error, which names the variable or file.
    """
    for kind in kinds:
        if name := uri.options.get(f"{kind}_file"):
            try:
                return Path(name).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise uri.error(place, expected=f"a file with the {kind}", found=str(error), mend=f"Check {kind}_file.") from None
        if name := uri.options.get(f"{kind}_env"):
            if text := os.environ.get(name, ""):
                return text
            raise uri.error(place, expected=f"the {kind} in ${name}", found="nothing", mend="Set the variable.")
    return None


def apart(uri: Uri, place: str, user: str, variable: str) -> None:
    """Raise the address's kind of error where a password is in it. variable: as an example."""
    if ":" in user or "password" in uri.options or "token" in uri.options:
        raise uri.error(
            place, expected="the password apart from the address", found="it in the address",
            mend=f"Put it in a variable or a file and name that: password_env={variable} or password_file=FILE.",
        )  # fmt: skip
