"""A twin of the simulated hosts that costs little: what is deployed is under test, not what it finds."""

from twin_engine import Stream, Twin
from twin_engine.detect import Level
from twins.host import CHANNELS

twin = Twin(
    name="light",
    hop="1 s",
    streams=[Stream("host", rate=1, channels=CHANNELS)],
    stages={"level": Level("host", memory="60 s")},
    show=("level",),
)
