"""One case for each registered stage: what the law suite runs it on. A stage without a case fails the suite."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from twin_engine.ports import BlockSpec, MarksSpec, Spec
from twin_engine.testing.laws import Case


def _running_psd() -> Case:
    from twin_engine.signal import RunningPSD

    spec = BlockSpec(Fraction(256), ("h", "g"))
    return Case(RunningPSD("x", memory="4 s", segment="1/2 s", band=(10, 40)), "1/16 s", {"source": spec}, "5 s")


def _whiten() -> Case:
    from twin_engine.signal import Whiten

    spec = BlockSpec(Fraction(256), ("h", "g"))
    return Case(Whiten("x", memory="4 s", segment="1/2 s", low="10 Hz", warm_up="2 s"), "1/16 s", {"source": spec}, "5 s")


def _band_pass() -> Case:
    from twin_engine.signal import BandPass

    return Case(BandPass("x", (4, 20), order=3), "1/8 s", {"source": BlockSpec(Fraction(64), ("a", "b"))}, "20 s")


def _high_pass() -> Case:
    from twin_engine.signal import HighPass

    return Case(HighPass("x", 3), "1/8 s", {"source": BlockSpec(Fraction(64), ("a", "b"))}, "20 s")


def _notch() -> Case:
    from twin_engine.signal import Notch

    return Case(Notch("x", (10, 20), q=4), "1/8 s", {"source": BlockSpec(Fraction(64), ("a", "b"))}, "20 s")


def _alarm() -> Case:
    from twin_engine.detect import Alarm

    spec = BlockSpec(Fraction(8), ("a", "b"), null="normal")
    return Case(Alarm("x", rate="1/2 min", gap="1/2 s", hold_off="1 s"), "1/4 s", {"source": spec}, "60 s")


def _qtriggers() -> Case:
    from twin_engine.signal import QTriggers

    spec = BlockSpec(Fraction(256), ("h", "g"))
    return Case(QTriggers("x", band=(8, 100), q=(4, 32), rate="10/s"), "1/16 s", {"source": spec}, "5 s")


def _decimate() -> Case:
    from twin_engine.signal import Decimate

    return Case(Decimate("x", 16, attenuation=50), "1/8 s", {"source": BlockSpec(Fraction(64), ("a", "b"))}, "20 s")


def _resample() -> Case:
    from twin_engine.signal import Resample

    return Case(Resample("x", 3), "2 s", {"source": BlockSpec(Fraction(2), ("a", "b"))}, "60 s")


def _auto() -> Case:
    from twin_engine.detect import Auto

    specs = {"source": BlockSpec(Fraction(8), ("a", "b")), "clock": BlockSpec(Fraction(8), ("t",))}
    return Case(Auto("x", "t", memory="20 s", warm_up="10 s", hold_off="8 s", prototypes=16, boxes=8), "1/2 s", specs, "60 s")


def _level() -> Case:
    from twin_engine.detect import Level

    return Case(Level("x", memory="10 s"), "1/2 s", {"source": BlockSpec(Fraction(8), ("a", "b"))}, "60 s")


def _cusum() -> Case:
    from twin_engine.detect import Cusum

    return Case(Cusum("x", memory="10 s"), "1/2 s", {"source": BlockSpec(Fraction(8), ("a", "b"))}, "60 s")


def _page_hinkley() -> Case:
    from twin_engine.detect import PageHinkley

    return Case(PageHinkley("x", memory="20 s", warm_up="2 s"), "1/2 s", {"source": BlockSpec(Fraction(8), ("a", "b"))}, "60 s")


def _predict() -> Case:
    from twin_engine.estimate import Predict

    spec = BlockSpec(Fraction(4), ("a", "b", "c", "d"))
    stage = Predict("x", ("b", "d"), ("a", "c"), responses=(0, "1 s"), memory="20 s", warm_up="4 s")
    return Case(stage, "1/2 s", {"source": spec}, "30 s")


def _subtract() -> Case:
    from twin_engine.signal import Subtract

    def make(rng: np.random.Generator, spec: Spec, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw the same noise for every input, so that there is something to take out."""
        del spec
        common = np.random.default_rng(7).normal(size=(shape[0], 1, 64 * 60))
        return common[..., :: 64 * 60 // shape[2]] + rng.normal(size=shape)

    inputs = {"source": BlockSpec(Fraction(64), ("h",)), "witness": BlockSpec(Fraction(32), ("a", "b"))}
    stage = Subtract("x", "w", band=(2, 14), memory="8 s", segment="1 s", products=(("a", "b"),))
    return Case(stage, "1/8 s", inputs, "60 s", make)


def _refractory() -> Case:
    from twin_engine.signal import Refractory

    spec = BlockSpec(Fraction(16), ("h", "g"))
    return Case(Refractory("x", floor=0.5), "1/16 s", {"source": spec}, "10 s")


def _veto() -> Case:
    from twin_engine.detect import Veto

    columns = {"start": ("i8", ()), "end": ("i8", ()), "score": ("f8", ())}
    return Case(Veto("x", pad="1/4 s", above=6.5), "1/4 s", {"source": MarksSpec(columns, ("h",), null="exponential")}, "60 s")


def _coherence() -> Case:
    from twin_engine.signal import Coherence

    inputs = {"a": BlockSpec(Fraction(64), ("h",)), "b": BlockSpec(Fraction(32), ("u", "v"))}
    return Case(Coherence("a", "b", ((2, 6), (4, 14)), segment="1 s", memory="8 s"), "1/8 s", inputs, "40 s")


#: stage class name -> a function that makes its case (imports stay inside, so that this module is light)
CASES: dict[str, Callable[[], Case]] = {
    "Alarm": _alarm,
    "Auto": _auto,
    "BandPass": _band_pass,
    "Cusum": _cusum,
    "Coherence": _coherence,
    "Decimate": _decimate,
    "HighPass": _high_pass,
    "Level": _level,
    "Notch": _notch,
    "PageHinkley": _page_hinkley,
    "Predict": _predict,
    "QTriggers": _qtriggers,
    "Resample": _resample,
    "Refractory": _refractory,
    "RunningPSD": _running_psd,
    "Subtract": _subtract,
    "Veto": _veto,
    "Whiten": _whiten,
}
