"""Biquads against scipy's sosfilt: eight sections on 64 channels of 16 s at 4096 Hz, one thread each, in turn; the best of several."""

from __future__ import annotations

import argparse
import json
import time
from fractions import Fraction

import numpy as np
from scipy import signal

from bench.record import write
from twin_engine.ports import Block, BlockSpec
from twin_engine.signal.filters import BandPass

CHANNELS, RATE, BAND, ORDER = 64, 4096, (20, 500), 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--data", help="not used")
    times = parser.parse_args().times
    x = np.random.default_rng(0).normal(size=(1, CHANNELS, 16 * RATE))
    spec = BlockSpec(Fraction(RATE), tuple(f"c{i}" for i in range(CHANNELS)))
    op = BandPass("x", BAND, ORDER).bind(Fraction(1, 16), {"source": spec})
    block = Block(x, np.ones(x.shape, bool), np.zeros(1, np.int64), np.zeros(1, np.int64))
    sos = signal.butter(ORDER, BAND, "bandpass", output="sos", fs=RATE)
    op.step(op.init(1), {"source": block})  # compiled
    ours, peer = [], []
    for _ in range(times):
        state = op.init(1)
        begin = time.perf_counter()
        op.step(state, {"source": block})
        middle = time.perf_counter()
        signal.sosfilt(sos, x, axis=-1)
        ours.append(x.size / (middle - begin))
        peer.append(x.size / (time.perf_counter() - middle))
    result = write(
        "biquads", ours=max(ours), peer=max(peer), unit="samples/s", peer_name="scipy.signal.sosfilt", sections=ORDER, channels=CHANNELS
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
