"""Witness subtraction on simulated strain: what is left in the coupling band over the floor, what witnesses of nothing do, and the speed.

The strain has a design-like floor at 4096 Hz; of eight witnesses at 1024 Hz two couple linearly, one as modulated by a slow eighth.
"""

from __future__ import annotations

import argparse
import json
import time
from fractions import Fraction

import numpy as np
from scipy import signal

from twin_engine.ports import Block, BlockSpec
from twin_engine.signal import Subtract

RATE, SLOW, HOP = 4096, 1024, Fraction(1, 16)
NAMES = (*(f"w{i}" for i in range(7)), "tilt")
BAND = (20, 200)


def up(w: np.ndarray) -> np.ndarray:
    return signal.resample_poly(w, RATE // SLOW, 1, window=("kaiser", 12.0))


def floor_noise(rng: np.random.Generator, seconds: int) -> np.ndarray:
    n = RATE * seconds
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 5)
    return np.fft.irfft(np.fft.rfft(rng.normal(size=n)) * 3e-22 * np.sqrt((20 / f) ** 9 + 1 + (f / 300) ** 2), n)


def run(stage: Subtract, x: np.ndarray, w: np.ndarray, hops: int) -> tuple[np.ndarray, float]:
    op = stage.bind(HOP, {"source": BlockSpec(Fraction(RATE), ("h",)), "witness": BlockSpec(Fraction(SLOW), NAMES)})
    rows, state, parts = np.zeros(1, np.int64), op.init(1), []
    n, m = int(HOP * RATE) * hops, int(HOP * SLOW) * hops
    begin = time.perf_counter()
    for k in range(len(x) // n):
        a, b = x[None, None, k * n : (k + 1) * n], w[None, :, k * m : (k + 1) * m]
        source, witness = Block(a, np.ones(a.shape, bool), rows, rows + k * n), Block(b, np.ones(b.shape, bool), rows, rows + k * m)
        state, out = op.step(state, {"source": source, "witness": witness})
        parts.append(out["clean"].values[0, 0])
    taken = time.perf_counter() - begin
    return np.concatenate(parts)[int(op.outputs["clean"].lag * RATE) :], taken


def ratio(x: np.ndarray, floor: np.ndarray, after: int, band: tuple[float, float] = BAND) -> float:
    """Return the mean over the band of the power over that of the floor."""
    f, p = signal.welch(x[after * RATE :], RATE, nperseg=4 * RATE)
    _, q = signal.welch(floor[after * RATE : len(x)], RATE, nperseg=4 * RATE)
    inside = (f >= band[0]) & (f <= band[1])
    return float(np.mean(p[inside] / q[inside]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=256)
    parser.add_argument("--data", help="not used")
    seconds = parser.parse_args().seconds
    rng = np.random.default_rng(0)
    floor, w = floor_noise(rng, seconds), rng.normal(size=(8, SLOW * seconds))
    w[7] = 5 + signal.lfilter([1.0], [1.0, -0.999], w[7]) / 22
    shape = signal.butter(2, BAND, "bandpass", output="sos", fs=RATE)
    linear, modulated = up(w[0]) + 0.5 * np.roll(up(w[1]), 40), up((w[7] - 5) * w[2])
    coupling = 6e-22 * np.sqrt(RATE) / 40 * signal.sosfilt(shape, linear + modulated)
    stage = Subtract("x", "w", products=(("tilt", "w2"),))
    run(stage, floor[: 4 * RATE], w[:, : 4 * SLOW], 16)  # compiled
    after = seconds // 2
    result: dict[str, object] = {"name": "subtract"}
    for name, size in (("strong", 5.0), ("moderate", 1.0), ("weak", 0.15)):
        x = floor + size * coupling
        clean, taken = run(stage, x, w, 16)
        result[name] = {"before_over_floor": round(ratio(x, floor, after), 4), "residual_over_floor": round(ratio(clean, floor, after), 4)}
        print(name, result[name])
    early, _ = run(stage, floor + coupling, w, 16)
    result["after_16_s"] = round(ratio(early[: 32 * RATE], floor, 16), 4)
    clean, taken = run(stage, floor, w, 16)
    result["knowing_nothing"] = round(ratio(clean, floor, 16, (10, 500)), 5)
    result["times_real_time"] = {"1 s steps": round(seconds / taken, 1), "1/16 s steps": round(seconds / run(stage, x, w, 1)[1], 1)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
