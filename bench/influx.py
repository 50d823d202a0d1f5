"""Lines written for InfluxDB: this encoder against ``influxdb_client.Point``, in turn; and, with ``--url``, the time from write to query.

The points of one update: 5,000 assets with one value each. With ``--url`` (token in INFLUX_TOKEN) 5 updates a second of 5,000 assets are
given to the sink, for some seconds, and each is timed until the server has acknowledged its last line.
"""

from __future__ import annotations

import argparse
import json
import time
from fractions import Fraction

import numpy as np

from bench.record import write
from streams import open_sink
from streams.influx_points import Points
from twin_engine.clock import NS
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Update

ASSETS, RATE = 5000, Fraction(5)
SPECS = {"odd.score": BlockSpec(RATE, ("value",))}
NAMES = [f"asset-{i:04d}" for i in range(ASSETS)]


def update(k: int, values: np.ndarray) -> Update:
    block = Block(values[:, None, None], np.ones((ASSETS, 1, 1), bool), np.arange(ASSETS), np.full(ASSETS, k))
    return Update("bench", NAMES, {"odd.score": block}, SPECS, until=int((k + 1) * NS / RATE), arrival=time.time_ns())


def encoding(times: int) -> tuple[float, float]:
    """Return points a second of this encoder and of the client's, the best of several."""
    from influxdb_client import Point, WritePrecision

    x = np.random.default_rng(0).normal(size=ASSETS)
    points = Points(("odd",), "", Fraction(10), Fraction(1))
    ours, peer = [], []
    for k in range(times):
        one = update(8_500_000_000 + k, x)
        begin = time.perf_counter()
        lines = b"".join(batch.data for batch in points.of(one))
        middle = time.perf_counter()
        at = int(one.until - NS / RATE)
        theirs = [
            Point("bench").tag("asset", name).tag("port", "score").tag("stage", "odd").field("value", value).time(at, WritePrecision.NS)
            for name, value in zip(NAMES, x.tolist(), strict=True)
        ]
        text = "\n".join(point.to_line_protocol() for point in theirs)
        ours.append(ASSETS / (middle - begin))
        peer.append(ASSETS / (time.perf_counter() - middle))
        assert sorted(text.splitlines()) == sorted(lines.decode().splitlines())
    return max(ours), max(peer)


def latency(url: str, seconds: float) -> dict[str, float]:
    """Return percentiles of the ms from write to the server's acknowledgement, at 25,000 lines a second."""
    sink = open_sink(url, show=("odd",))
    sink.open(None)
    x = np.random.default_rng(0).normal(size=ASSETS)
    found, begin, first = [], time.perf_counter(), int(time.time() * RATE)
    for k in range(int(seconds * RATE)):
        time.sleep(max(0.0, begin + k / float(RATE) - time.perf_counter()))
        start = time.perf_counter()
        sink.write(update(first + k, x))
        sink.flush()
        found.append(1000 * (time.perf_counter() - start))
    sink.close()
    return {f"p{q}_ms": round(float(np.percentile(found, q)), 1) for q in (50, 99, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--url", help="influx:http://HOST:8086/BUCKET?org=ORG")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    ours, peer = encoding(given.times)
    more = latency(given.url, given.seconds) if given.url else {}
    print(json.dumps(write("influx_lines", ours=ours, peer=peer, unit="points/s", peer_name="influxdb_client.Point", **more)))


if __name__ == "__main__":
    main()
