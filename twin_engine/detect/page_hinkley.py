"""The Page-Hinkley test: a lasting change of the mean, after which it starts anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import inf
from typing import Any

from twin_engine.detect.cusum import CusumOp
from twin_engine.detect.level import level_setting
from twin_engine.ports import Spec
from twin_engine.stage import Stage, block_input


@dataclass(frozen=True)
class PageHinkley(Stage):
    """Two-sided Page-Hinkley test on the mean since the last change, in sigmas of the samples since then.

    drift: sigmas that are taken off at each sample. restart: the -log10 p at which a change is taken as found: the score is given once,
    then mean and sums start anew, silent for the warm-up. memory: the mean forgets what is older. scale_memory, warm_up: as in ``Level``.

    Port ``score``: -log10 p, as in ``Cusum``. Sources: Page 1954; Hinkley 1971.
    """

    source: str
    drift: float = 0.25
    restart: float = 6.0
    memory: Any = "1 day"
    scale_memory: Any = None
    warm_up: Any = "5 min"

    def bind(self, hop: Fraction, specs: Mapping[str, Spec]) -> CusumOp:
        """Check against the source and return the op."""
        del hop
        spec, place = block_input(self, "source", specs), f"PageHinkley({self.source!r})"
        setting = level_setting(spec, place, self.memory, self.scale_memory, self.warm_up, clip=inf, drift=self.drift, restart=self.restart)
        return CusumOp(spec, setting)
