"""One interferometer's fast data: 400 auxiliary channels at 1024 Hz and the strain at 16384 Hz, all whitened, all searched."""

from twin_engine import Channel, Stream, Twin
from twin_engine.detect import Alarm
from twin_engine.signal import QTriggers, Whiten

CHANNELS, AUX, STRAIN = 400, 1024, 16384

twin = Twin(
    name="fast",
    hop="1/8 s",
    streams=[
        Stream("strain", rate=STRAIN, channels=[Channel("h")]),
        Stream("aux", rate=AUX, channels=[Channel(f"x{i:03d}") for i in range(CHANNELS)]),
    ],
    stages={
        "white": Whiten("strain", memory="32 s", segment="1/2 s", warm_up="6.5 s"),
        "glitch": QTriggers("white", band=(20, 2048), q=(4, 64), longest="1/2 s", cadence="1/8 s", gap="1/8 s", duration="1/8 s"),
        "alarm": Alarm("glitch", rate="20/min", gap="1/4 s", kind="glitch"),
        "aux_white": Whiten("aux", memory="32 s", segment="1/2 s", warm_up="6.5 s"),
        "aux_glitch": QTriggers("aux_white", band=(20, 256), q=(4, 64), longest="1/2 s", cadence="1/8 s", gap="1/8 s", duration="1/8 s"),
        "aux_alarm": Alarm("aux_glitch", rate="20/min", gap="1/4 s", kind="glitch"),
    },
)
