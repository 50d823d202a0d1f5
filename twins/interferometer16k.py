"""The interferometer at 16384 Hz, the rate at which Virgo and LIGO calibrate: see ``interferometer``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from twin_engine import Channel, Stream
from twin_engine.signal import QTriggers
from twins import interferometer

_base = interferometer.twin
twin = replace(
    _base,
    name="interferometer16k",
    streams=[Stream("strain", rate=16384, channels=[Channel("h")]), _base.stream("witness")],
    stages={**_base.stages, "glitch": QTriggers("white", band=(20, 4096), q=(4, 64), mismatch=0.2)},
    simulator=partial(interferometer.simulator, rate=16384),
)
