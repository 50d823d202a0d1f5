"""The twins of the ladder: one value each, at the rates of its rungs."""

from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm, Level


def _twin(name: str, rate: str) -> Twin:
    return Twin(
        name=name,
        hop=f"{1 / float(rate)} s",
        streams=[Stream("s", float(rate), [Channel("value")])],
        stages={"level": Level("s", memory="60 s"), "alarm": Alarm("level", rate="1/day")},
        show=("level",),
    )


half = _twin("half", "0.5")
one = _twin("one", "1")
five = _twin("five", "5")
