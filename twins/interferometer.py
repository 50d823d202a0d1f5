"""A laser interferometer: witness noise taken out, glitches found.

Streams: ``strain`` (channel ``h``, dimensionless) and ``witness`` (eight sensors). Without witnesses the strain goes on as it is, so the
same twin runs on open data of LIGO and Virgo.

Parameters of the simulator (``--from "sim:?curve=AdV&glitches=4&duration=600"``): seed, duration, start, curve (AdV, ET-D, aLIGO or a
file), glitches (how many a minute, or ``Blip@12.5:20,Tomte@30:15`` as kind@second:SNR), snr (the least of those drawn), faults
(``gap@20:5``), line_strength, low, witnesses (0: none).
"""

from __future__ import annotations

from typing import Any

from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm, Veto
from twin_engine.signal import QTriggers, Refractory, Subtract, Whiten
from twin_engine.sim import Interferometer, Lines, Witness

WITNESSES = (
    Witness("w0", mains=1.0),  # the mains
    Witness("w1", band=(14, 40), ratio=3.0, delay=0.004),  # ground, north
    Witness("w2", band=(20, 60), ratio=2.0, delay=0.002),  # ground, west
    Witness("w3", band=(50, 120), ratio=1.5, delay=0.001),  # sound at the injection bench
    Witness("w4", band=(120, 400), ratio=1.0),  # jitter of the beam
    Witness("w5", band=(20, 100), ratio=2.0, by="w6"),  # sound that reaches the strain by way of the alignment
    Witness("w6"),  # the alignment, slow
    Witness("w7", band=(5, 300)),  # sound outside, which reaches nothing
)
LINES = (
    ("mains", Lines((50.0, 100.0, 150.0, 250.0, 350.0), rms=(30.0, 5.0, 10.0, 4.0, 2.0), kind="mains", knot=60.0)),
    ("violin", Lines((439.5, 442.125, 445.0, 448.25, 881.5, 888.0), rms=(60.0, 40.0, 80.0, 30.0, 20.0, 15.0), kind="mode", knot=40.0)),
)


def simulator(asset: str, *, witnesses: int = 1, **parameters: Any) -> Interferometer:
    """Return a simulated detector; see ``twin_engine.sim.Interferometer`` for its parameters."""
    return Interferometer(asset, witnesses=WITNESSES if int(witnesses) else (), lines=LINES, **parameters)


twin = Twin(
    name="interferometer",
    hop="1/16 s",
    streams=[
        Stream("strain", rate=4096, channels=[Channel("h")]),
        Stream("witness", rate=1024, channels=[Channel(w.name, unit="V") for w in WITNESSES]),
    ],
    stages={
        "clean": Subtract("strain", witness="witness", band=(10, 500), memory="64 s", products=(("w5", "w6"),)),
        "white": Whiten("clean", memory="32 s", warm_up="6.5 s"),  # so that the triggers are valid after 8 s
        "glitch": QTriggers("white", band=(20, 1024), q=(4, 64), mismatch=0.2),
        "alarm": Alarm(
            "glitch", rate="1/h", gap="1/4 s", habituation="32 s", kind="glitch"
        ),  # two transients a second apart are two events
        "news": Refractory("glitch.energy"),
        "veto": Veto("alarm"),
    },
    simulator=simulator,
    show=("clean", "white", "news", "veto"),
)
