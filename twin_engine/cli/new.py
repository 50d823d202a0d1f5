"""``twin-engine new NAME``: a working twin module and its test, to be changed line by line."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path

from twin_engine.errors import InputError

MODULE = '''"""A NAME: pressure and temperature, once a second; a leak shows in both."""

from fractions import Fraction

import numpy as np

from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm, Level
from twin_engine.sim import START, Injection, Simulator, generator, schedule


class Simulated(Simulator):
    """A simulated NAME for ``--from "sim:?seed=1&duration=7200&faults=leak@5400:600"`` (kind@second:seconds)."""

    def __init__(self, asset="NAME", *, seed=0, duration=None, start=START, faults=""):
        streams = {"sensors": (Fraction(1), ("pressure", "temperature"))}
        super().__init__(asset, streams, start=start, duration=duration, block=Fraction(1), segment=Fraction(60))
        self.seed, self.faults = seed, schedule(faults, ("leak",), 600.0)

    def make(self, k):
        """Return minute k: stream name -> (channel, sample). It depends on the seed and on k alone."""
        t = np.arange(60) + 60 * k
        noise = generator(self.seed, "noise", k).standard_normal((2, 60))
        leaking = sum(((t >= f.at) & (t < f.at + f.amount) for f in self.faults), np.zeros(60, bool))
        pressure = 2.0e5 + 400 * noise[0] - 4000 * leaking
        temperature = 60 + 0.3 * noise[1] + 2.5 * leaking
        return {"sensors": np.stack([pressure, temperature])}

    def truth(self, until=None):
        """Return the faults that were put in."""
        spans = [(f.kind, *(self.start + round(t * 1e9) for t in (f.at, f.at + f.amount))) for f in self.faults]
        return [Injection(kind, begin, begin, end) for kind, begin, end in spans]


twin = Twin(
    name="NAME",
    hop="1 s",
    streams=[
        Stream(
            "sensors",
            rate="1 Hz",
            channels=[Channel("pressure", unit="Pa", range=(0, 1e6)), Channel("temperature", unit="degC", range=(-40, 150))],
        ),
    ],
    stages={
        "level": Level("sensors", memory="30 min"),
        "alarm": Alarm("level", rate="1/day"),
    },
    simulator=Simulated,
    show=("level",),
)
'''

TEST = '''"""The NAME twin finds a leak, and nothing before it."""

from NAME import twin

from twin_engine import latest, replay


def test_a_leak_is_found():
    asset = twin.simulator("NAME-1", seed=1, duration=7200, faults="leak@5400:600")
    readings = (reading for block in asset.blocks() for reading in block)
    events = latest(event for update in replay(twin, readings, asset="NAME-1") for event in update.events)
    leak = asset.truth()[0]
    assert events, "the leak was not found"
    assert leak.start <= events[0].start < leak.end
    assert set(events[0].channels) == {"pressure", "temperature"}
'''


def write(name: str, folder: Path) -> list[Path]:
    """Write ``NAME.py`` and ``test_NAME.py`` and return their paths; raises InputError for a bad name or files that are there."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(f"name {name!r}", expected="a Python identifier", found=repr(name), mend="Use letters, digits and underscores.")
    if importlib.util.find_spec(name) is not None and not (folder / f"{name}.py").exists():
        raise InputError(f"name {name!r}", expected="a name that no installed module has", found=repr(name), mend="Choose another name.")
    texts = {folder / f"{name}.py": MODULE, folder / f"test_{name}.py": TEST}
    for path in texts:
        if path.exists():
            raise InputError(
                str(path), expected="no such file yet", found="one that is there", mend="Choose another name, or move it away."
            )
    for path, text in texts.items():
        path.write_text(text.replace("NAME", name))
    return list(texts)
