"""Stages: what a person writes (frozen configuration), and the ops they bind to (init and step)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

from twin_engine.errors import DefinitionError
from twin_engine.ports import BlockSpec, MarksSpec, Port, Spec

#: every concrete stage class by name; the law suite runs on all of them
REGISTRY: dict[str, type[Stage]] = {}


class Op(ABC):
    """A stage bound to what its inputs carry. Stateless: all that changes is in the state it is given.

    outputs: port name -> spec; the first is the stage's primary output. memory: seconds, the longest memory of the state: after a longer
    gap
    the row starts anew. persistent: the state outlives such a restart (alarm memories, which count live time).
    """

    outputs: Mapping[str, Spec]
    memory: Fraction = Fraction(0)
    persistent: bool = False

    @abstractmethod
    def init(self, assets: int) -> NamedTuple:
        """Return the state of that many assets: a NamedTuple of numpy arrays, asset first, of a size that never changes."""

    @abstractmethod
    def step(self, state: Any, inputs: Mapping[str, Port]) -> tuple[Any, dict[str, Port]]:
        """Take whole hops of every input (roles as in ``Stage.inputs``) and return the state and the outputs.

        All inputs cover the same rows and event time. The state is consumed: only the rows of the inputs are written, in place. Inputs
        are never changed, and no output shares memory with an input or the state.
        """


class Stage(ABC):
    """A step of a twin, configured in seconds and hertz. Subclasses are frozen dataclasses.

    ``INPUTS`` names the fields that hold references to streams or stages (``"strain"``, ``"white"``, ``"white.psd"``), as a
    string, a tuple of strings (roles ``name.0``, ``name.1``) or None (absent). ``VERSION`` is raised when the meaning of the state
    changes. ``UNITS``
    names, by role, the unit that an input must be convertible to; roles that are not named take any.
    """

    INPUTS: ClassVar[tuple[str, ...]] = ("source",)
    VERSION: ClassVar[int] = 1
    UNITS: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not getattr(cls, "__abstractmethods__", None):
            REGISTRY[cls.__name__] = cls

    @abstractmethod
    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> Op:
        """Check the configuration against the inputs' specs (by role) and return the op. Raises DefinitionError."""

    def inputs(self) -> dict[str, str]:
        """Return role -> reference, in order."""
        found: dict[str, str] = {}
        for name in self.INPUTS:
            value = getattr(self, name)
            if isinstance(value, str):
                found[name] = value
            elif value is not None:
                found.update({f"{name}.{i}": ref for i, ref in enumerate(value)})
        return found

    def digest(self) -> str:
        """Return 16 hex digits over the class, its version and its fields: the key of its state in a snapshot."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        text = json.dumps([type(self).__module__, type(self).__name__, self.VERSION, fields], default=repr, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def block_input(stage: Stage, role: str, specs: Mapping[str, Spec]) -> BlockSpec:
    """Return the spec of an input that must be a block, or raise."""
    spec = specs[role]
    if not isinstance(spec, BlockSpec):
        raise DefinitionError(
            f"{type(stage).__name__}({stage.inputs()[role]!r})", expected="samples (a block)", found="marks",
            mend="Give it a stream or a stage that puts out samples.",
        )  # fmt: skip
    return spec


def marks_input(stage: Stage, role: str, specs: Mapping[str, Spec]) -> MarksSpec:
    """Return the spec of an input that must be marks, or raise."""
    spec = specs[role]
    if not isinstance(spec, MarksSpec):
        raise DefinitionError(
            f"{type(stage).__name__}({stage.inputs()[role]!r})", expected="marks (triggers or events)", found="samples",
            mend="Give it a stage that puts out marks.",
        )  # fmt: skip
    return spec


def samples(duration: Fraction, rate: Fraction, place: str) -> int:
    """Return a duration as a whole number of samples (rounded), or raise when it is shorter than one."""
    n = round(duration * rate)
    if n < 1:
        raise DefinitionError(
            place, expected=f"at least one sample, {float(1 / rate):g} s", found=f"{float(duration):g} s", mend="Make it longer.",
        )  # fmt: skip
    return n
