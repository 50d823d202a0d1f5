"""A twin's own simulator as a source."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Protocol

from msgspec.structs import replace

from streams.context import Context
from streams.uri import Uri, nearest
from twin_engine.errors import InputError
from twin_engine.records import Item, Position, Reading


class Simulator(Protocol):
    """What a twin's ``simulator(asset, **parameters)`` returns: blocks of readings, the same ones for the same parameters and number."""

    start: int
    block: Fraction

    def blocks(self, first: int) -> Iterator[list[Reading]]:
        """Yield the readings of block ``first`` and of those after it. start: ns UTC of block 0; block: seconds."""
        ...


def open_sim(uri: Uri, context: Context) -> SimSource:
    """Open ``sim:?seed=1&NAME=VALUE``: the parameters go to the twin's simulator, numbers as numbers, the rest as text."""
    if context.simulator is None:
        raise InputError(
            uri.text, expected="a twin with a simulator", found="a twin without one", mend="Choose a file or a live source with --from."
        )
    parameters = {name: _value(text) for name, text in uri.options.items()}
    asset = context.asset or "sim"
    try:
        simulator: Simulator = context.simulator(asset, **parameters)
    except TypeError as error:
        odd = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        known = _parameters(context.simulator)
        mend = nearest(odd[1], known) if odd and known else "See the twin's docstring."
        raise InputError(uri.text, expected="parameters of the twin's simulator", found=str(error), mend=mend) from None
    return SimSource(asset, simulator)


def _parameters(simulator: Callable[..., Any]) -> list[str]:
    """Return the parameters of a simulator, and of what it says to return, as far as they can be known: for a hint."""
    try:
        said = inspect.signature(simulator, eval_str=True)
        both = [said, inspect.signature(said.return_annotation)] if isinstance(said.return_annotation, type) else [said]
    except (NameError, TypeError, ValueError):
        return []
    names = [p.name for signature in both for p in signature.parameters.values() if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return [name for name in names if name != "asset"]


def _value(text: str) -> Any:
    """Return a parameter as an integer, a number, a flag or text."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


class SimSource:
    """A simulator's readings. A position is ``[block, reading]``: the next block, and how many of its readings are done."""

    live = False

    def __init__(self, asset: str, simulator: Simulator) -> None:
        self._asset, self._simulator = asset, simulator

    @property
    def assets(self) -> list[str]:
        """The one asset."""
        return [self._asset]

    def items(self, position: Position) -> Iterator[Item]:
        """Yield the readings from the position on; ends where the simulator ends."""
        block, done = position or (0, 0)
        for readings in self._simulator.blocks(block):
            for k in range(done, len(readings)):
                after = [block + 1, 0] if k + 1 == len(readings) else [block, k + 1]
                yield replace(readings[k], position=after)
            block, done = block + 1, 0

    def acknowledge(self, position: Position) -> None:
        """Nothing to do: the simulator makes it again."""

    def close(self) -> None:
        """Nothing is held."""
