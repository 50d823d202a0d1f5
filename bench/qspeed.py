"""Whitening and Q-transform triggers against gwpy (``whiten`` + ``q_scan``) and ml4gw on the CPU, and energies against gwpy's rows.

``python -m bench.qspeed [--times N] [--threads N]``. 64 s of noise at 4096 Hz, 1 and 64 channels; the best of several. Same band, range of
Q and mismatch. The engine and ml4gw get the stated number of threads; gwpy has one whatever it is given. The engine takes 8 s a step;
live, 64 channels are stepped hop by hop (1/4 s). gwpy takes a channel at a time and ml4gw 8; all 64 are computed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from unittest.mock import MagicMock

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy loads

import numpy as np

from bench.record import write
from twin_engine.ports import Block, BlockSpec, Float
from twin_engine.signal import QTriggers, Whiten

RATE, SECONDS, START = 4096, 64, 64 * 20_000_000
BAND, Q, MISMATCH = (20, 1024), (4, 64), 0.2
ROWS = ((5.66, 60.0), (5.66, 600.0), (11.3, 40.0), (11.3, 300.0), (22.6, 90.0), (22.6, 500.0), (45.2, 60.0), (45.2, 400.0), (45.2, 900.0))


class Chain:
    """Whiten and QTriggers, one asset of several channels."""

    def __init__(self, channels: int, hop: Fraction) -> None:
        spec: Any = BlockSpec(Fraction(RATE), tuple(f"c{i}" for i in range(channels)))
        self.ops = []
        for stage in (Whiten("x", memory="32 s"), QTriggers("x", band=BAND, q=Q, mismatch=MISMATCH)):
            self.ops.append(stage.bind(hop, {"source": spec}))
            spec = next(iter(self.ops[-1].outputs.values()))
        self.hop = int(hop * RATE)

    def run(self, x: Float, hops: int) -> None:
        """Step through all of x ``(channel, time)``, so many hops at a time."""
        states = [op.init(1) for op in self.ops]
        size = hops * self.hop
        for at in range(0, x.shape[1] - size + 1, size):
            part = np.ascontiguousarray(x[None, :, at : at + size])
            port: Any = Block(part, np.ones(part.shape, bool), np.zeros(1, np.int64), np.array([START * RATE + at]))
            for i, op in enumerate(self.ops):
                states[i], out = op.step(states[i], {"source": port})
                port = next(iter(out.values()))


def gwpy_run(x: Float) -> None:
    from gwpy.timeseries import TimeSeries

    for channel in x:
        white = TimeSeries(channel, sample_rate=RATE).whiten(fftlength=1, method="median")
        from gwpy.signal.qtransform import q_scan

        q_scan(white, qrange=Q, frange=BAND, mismatch=MISMATCH)


def ml4gw_run(transforms: Any, x: Float) -> None:
    import torch

    spectral, whiten, scan = transforms
    with torch.inference_mode():
        for at in range(0, len(x), 8):
            part = torch.from_numpy(x[None, at : at + 8])
            white = whiten(part, spectral(part)).to(torch.float32)
            for plane in scan:
                plane.compute_qtiles(white)


def _without_torchaudio() -> None:
    """Let ml4gw load where torchaudio does not fit torch: only transforms that are not used here need it."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, RuntimeError):
        for name in ("torchaudio", "torchaudio.functional", "torchaudio.transforms"):
            sys.modules[name] = MagicMock()


def ml4gw_transforms(threads: int) -> Any:
    import torch

    _without_torchaudio()
    from ml4gw.transforms import SingleQTransform, SpectralDensity
    from ml4gw.transforms import Whiten as TorchWhiten

    torch.set_num_threads(threads)
    from twin_engine.signal.qtiling import q_planes

    duration = SECONDS - 1  # its whitening cuts off the filter's length
    scan = [SingleQTransform(duration, RATE, (64, 64), float(q), list(BAND), MISMATCH) for q in q_planes(*Q, MISMATCH)]
    return SpectralDensity(RATE, 1, average="median", fast=False).double(), TorchWhiten(1, RATE, highpass=20).double(), scan


def best(times: int, call: Callable[[], None]) -> float:
    """Return the shortest of several durations, s."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return min(found)


def row_error() -> float:
    """Return the largest relative difference from gwpy of the energies of each row's peak, on unit noise with a sine-Gaussian in it."""
    from gwpy.signal.qtransform import QTile
    from gwpy.timeseries import TimeSeries

    class Row(QTile):
        def get_data_indices(self) -> Any:
            return super().get_data_indices() - 1  # centred on its frequency

    rng, t, worst = np.random.default_rng(4), np.arange(SECONDS * RATE) / RATE, 0.0
    for q, f in ROWS:
        x = rng.normal(size=len(t)) + 3 * np.sqrt(f / q) * np.exp(-(((t - 33.3) * 2 * np.pi * f / q) ** 2)) * np.sin(2 * np.pi * f * t)
        series = TimeSeries(x, sample_rate=RATE)
        theirs = float(np.asarray(Row(q, f, SECONDS, RATE, MISMATCH).transform(series.fft() * (len(x) / 2), norm=False, epoch=0)).max())
        row = Row(q, f, SECONDS, RATE, MISMATCH)
        theirs /= float((row.get_window() ** 2).sum()) * len(x) / row.ntiles**2
        stage = QTriggers("x", band=(f / 1.00001, f * 1.00001), q=(q, q), mismatch=MISMATCH, memory="1000000000 s")  # levels stay at 1
        op = stage.bind(Fraction(1, 4), {"source": BlockSpec(Fraction(RATE), ("h",))})
        block = Block(x[None, None], np.ones((1, 1, len(x)), bool), np.zeros(1, np.int64), np.array([START * RATE]))
        energy: Any = op.step(op.init(1), {"source": block})[1]["energy"]
        worst = max(worst, abs(float(energy.values[energy.valid].max()) / theirs - 1))
    return worst


def main() -> None:
    """Print and keep the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--data", help="not used")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    times, threads = options.times, options.threads
    os.environ["TWIN_ENGINE_THREADS"] = str(threads)
    rng = np.random.default_rng(1)
    found: dict[str, Any] = {"bench": "qspeed", "threads": threads, "row_error": round(row_error(), 5)}
    transforms = ml4gw_transforms(threads)
    for channels in (1, 64):
        x = rng.normal(size=(channels, SECONDS * RATE))
        chain = Chain(channels, Fraction(1, 4))
        chain.run(x[:, : 8 * RATE], 4)  # compiled
        ours = best(times, lambda: chain.run(x, 32))  # noqa: B023
        live = best(times, lambda: chain.run(x, 1))  # noqa: B023
        gwpy = best(min(2, times) if channels > 1 else times, lambda: gwpy_run(x))  # noqa: B023
        ml4gw = best(times, lambda: ml4gw_run(transforms, x))  # noqa: B023
        amount = channels * SECONDS
        for peer, took in (("gwpy", gwpy), ("ml4gw", ml4gw)):
            kept = write(
                f"qspeed_{peer}_{channels}", ours=amount / ours, peer=amount / took, unit="channel-seconds/s", peer_name=peer,
                threads=threads, peer_threads=1 if peer == "gwpy" else threads, channels=channels,
            )  # fmt: skip
            found[f"ratio_{peer}_{channels}"] = kept["ratio"]
        found[f"live_{channels}"] = round(SECONDS / live, 2)
    write(
        "qspeed_live_64",
        ours=found["live_64"],
        peer=1.0,
        unit="x real time, 64 channels, hop 1/4 s",
        peer_name="real time",
        threads=threads,
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
