"""The twin that tests of a service run: one channel, its level, and an alarm on that."""

from __future__ import annotations


def room(channel: str = "t", unit: str = "degC", name: str = "room") -> str:
    """Return its definition, to be written to a file and found by its name."""
    return f"""
from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm, Level
twin = Twin("{name}", "1 s", [Stream("s", 1, [Channel("{channel}", unit="{unit}")])],
            {{"level": Level("s", memory="60 s"), "alarm": Alarm("level", rate="1/h")}}, show=("level",))
"""
