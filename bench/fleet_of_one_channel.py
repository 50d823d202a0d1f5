"""The twin that the service's benchmarks run: one channel, a level and an alarm. Loaded by its path, as a user's own is."""

from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm, Level

twin = Twin(
    name="one",
    hop="1/2 s",
    streams=[Stream("s", 2, [Channel("value")])],
    stages={"level": Level("s", memory="60 s"), "alarm": Alarm("level", rate="1/h")},
    show=("level",),
)
