"""OpenTwins' ladder over MQTT: ``python -m bench.ladder_mqtt [--rungs 1,2,3] [--seconds S]``.

1000 twins at 0.5 a second, 2500 at 1, 5000 at 1: a message a sample (JSON, QoS 1, topic ``PREFIX/{asset}/{channel}``) into Mosquitto; one
process, as ``twin-engine run`` makes it, logs each on disk, acknowledges it, updates the twin, keeps snapshots and writes to InfluxDB. The
latency is from the call that sends a message to the database's word that it has taken the point, for every single message, and by hop:
``broker`` until the engine's process has the message, ``log`` until it is on disk and the twin gets it, ``twin`` until the sink has the
update, ``database`` until its word. Lost is what never arrived there. Prints one JSON line a rung, with the CPU (cores) of generator and
engine, and the engine's microseconds a message. MQTT_URL, INFLUX_URL, INFLUX_TOKEN, INFLUX_ORG, INFLUX_BUCKET say where the servers are
(``make services``). The first ``WARM`` seconds are not counted; that each message brought an update is checked in all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from bench.ladder import BATCH, ROOT, RUNGS
from twin_engine.engine import blocks_of
from twin_engine.records import Reading, Update

HOPS = ("broker", "log", "twin", "database")
WARM = 20.0  # s, in which the twins' levels warm up and say nothing
WAIT = 90.0  # s for the engine to be there, its kernels compiled


class Probe:
    """Notes, in the engine's process, when each sample was heard, taken, written and stored."""

    def __init__(self, twin: str) -> None:
        self.samples = tuple(array("q") for _ in range(4))  # asset, time, arrival, when the twin got it
        self.updates: list[tuple[int, np.ndarray, np.ndarray, int]] = []  # when, assets, first sample, samples
        self.posts: list[tuple[int, bytes]] = []
        self._line = re.compile(rb"^%s,asset=a(\d+),[^ ]*port=score[^ ]* [^ ]+ (\d+)$" % twin.encode(), re.MULTILINE)

    def install(self, ready: Path) -> None:
        """Put the probe into the classes that a run is made of."""
        from streams.influx_http import Database
        from streams.sink_influx import InfluxSink
        from streams.source_mqtt import MqttSource
        from twin_engine.engine import Engine

        items, put_all, write, post = MqttSource.items, Engine.put_all, InfluxSink.write, Database.post

        def told(source: MqttSource, position: Any) -> Iterator[Any]:
            for n, item in enumerate(items(source, position)):
                if not n:
                    ready.touch()
                yield item

        def got(engine: Engine, readings: Iterable[Reading]) -> Iterator[Update]:
            given, now = list(readings), time.time_ns()
            assets, times, arrivals, taken = self.samples
            for reading in given:
                assets.append(int(reading.asset[1:]))
                times.append(reading.times.item())
                arrivals.append(reading.arrival)
                taken.append(now)
            return put_all(engine, given)

        def written(sink: InfluxSink, update: Update) -> None:
            block = blocks_of(update, "level.score")
            assets = np.array([int(update.assets[row][1:]) for row in block.rows.tolist()])
            self.updates.append((time.time_ns(), assets, block.start.copy(), block.n))
            write(sink, update)

        def stored(database: Database, data: bytes) -> None:
            post(database, data)
            self.posts.append((time.time_ns(), data))

        MqttSource.items, Engine.put_all, InfluxSink.write, Database.post = told, got, written, stored  # type: ignore[method-assign]

    def times(self, assets: int, samples: int, first: int, rate: float) -> np.ndarray:
        """Return seconds ``(hop, sample, asset)``: NaN where never."""
        found = np.full((len(HOPS), samples, assets), np.inf)

        def note(hop: int, sample: np.ndarray, asset: np.ndarray, when: np.ndarray | float) -> None:
            inside = (sample >= first) & (sample < first + samples)
            cell = (np.full(inside.sum(), hop), sample[inside] - first, asset[inside])
            np.minimum.at(found, cell, (when[inside] if isinstance(when, np.ndarray) else when) / 1e9)

        asset, at, arrival, taken = (np.frombuffer(column, np.int64) for column in self.samples)
        sample = np.round(at / 1e9 * rate).astype(np.int64)
        note(0, sample, asset, arrival)
        note(1, sample, asset, taken)
        for when, rows, start, n in self.updates:
            for k in range(n):
                note(2, start + k, rows, when)
        for when, data in self.posts:
            lines = np.array(self._line.findall(data), "S20").astype(np.int64).reshape(-1, 2)
            note(3, np.round(lines[:, 1] / 1e9 * rate).astype(np.int64), lines[:, 0], when)
        return np.where(np.isinf(found), np.nan, found)


def engine_process(twin: str, uri: str, folder: Path, assets: int, samples: int, rate: float) -> None:
    """Run as ``twin-engine run`` does; when it ends, write what was noted."""
    from twin_engine import service

    probe = Probe(twin)
    probe.install(folder / "ready")
    sink = f"influx:{os.environ['INFLUX_URL']}/{os.environ['INFLUX_BUCKET']}?org={os.environ['INFLUX_ORG']}&refused={folder}/refused.jsonl"
    names = [f"a{k:04d}" for k in range(assets)]
    service.run(f"{ROOT}/bench/ladder_twins.py:{twin}", uri, [sink], assets=names, state=folder / "state")
    np.save(folder / "trace.npy", probe.times(assets, samples, int((folder / "first").read_text()), rate))


class Publisher:
    """MQTT 3.1.1 with QoS 1 over a plain socket: what is given is sent at once, acknowledgements are counted in a thread."""

    def __init__(self, url: str) -> None:
        at = urlsplit(url)
        self._socket = socket.create_connection((at.hostname or "", at.port or 1883))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        user, password = (at.username or "").encode(), (at.password or "").encode()
        body = b"\0\4MQTT\4\xc2\0\0" + text(b"ladder-%d" % time.time_ns()) + text(user) + text(password)
        self._socket.sendall(b"\x10" + length(len(body)) + body)
        if (answer := self._socket.recv(4)) != b"\x20\2\0\0":
            raise RuntimeError(f"the broker's answer: {answer!r}")
        self.sent = self.taken = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def packet(self, topic: bytes, payload: bytes) -> bytes:
        """Return a message as it goes over the wire."""
        self.sent += 1
        body = topic + (1 + self.sent % 65535).to_bytes(2, "big") + payload
        return b"\x32" + length(len(body)) + body

    def send(self, packets: list[bytes]) -> None:
        self._socket.sendall(b"".join(packets))

    def _listen(self) -> None:
        odd = 0
        while data := self._socket.recv(1 << 16):  # nothing comes but acknowledgements, four bytes each
            self.taken, odd = self.taken + (odd + len(data)) // 4, (odd + len(data)) % 4

    def close(self) -> None:
        """Wait until the broker has acknowledged all, and hang up."""
        end = time.monotonic() + 60
        while self.taken < self.sent and time.monotonic() < end:
            time.sleep(0.01)
        if self.taken < self.sent:
            raise RuntimeError(f"the broker has taken {self.taken} of {self.sent} messages")
        self._socket.sendall(b"\xe0\0")
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


def text(raw: bytes) -> bytes:
    """Return a text as MQTT writes it."""
    return len(raw).to_bytes(2, "big") + raw


def length(n: int) -> bytes:
    """Return a length as MQTT writes it, up to 16383."""
    return bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])


def generate(url: str, prefix: str, assets: int, rate: float, samples: int, first: int, look: Any) -> np.ndarray:
    """Send each asset's samples, the assets spread evenly over the period; return when each was sent. look: called when it is warm."""
    publisher = Publisher(url)
    topics = [text(b"%s/a%04d/value" % (prefix.encode(), a)) for a in range(assets)]
    sent = np.full(samples * assets, np.nan)
    begin, k, warm = first / rate, 0, int(WARM * rate) * assets
    while k < samples * assets:
        time.sleep(max(0.0, BATCH - time.time() % BATCH))
        due = min(samples * assets, int((time.time() - begin) * rate * assets) + 1)
        if k < warm <= due:
            look()
        packets: list[bytes] = []
        while k < due:
            sample, a = divmod(k, assets)
            value = b'{"ts":%.3f,"value":%.4f}' % ((first + sample) / rate, 1.0 + 0.001 * (a % 7) + 0.01 * (sample % 3))
            packets.append(publisher.packet(topics[a], value))
            sent[k] = time.time()
            k += 1
        if packets:
            publisher.send(packets)
    look()
    publisher.close()
    return sent.reshape(samples, assets)


def rung(number: int, seconds: float) -> dict[str, Any]:
    """Run one rung and return its figures."""
    name, assets, rate, theirs = RUNGS[number]
    url, prefix = os.environ["MQTT_URL"], f"ladder{number}-{time.time_ns()}"
    samples = int((seconds + WARM) * rate)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        engine = _start(folder, url, prefix, name, assets, samples, rate)
        process, cpu = psutil.Process(engine.pid), list[tuple[float, float, float]]()

        def look() -> None:
            cpu.append((time.time(), time.process_time(), sum(process.cpu_times()[:2])))

        first = int((time.time() + 1) * rate) + 1
        (folder / "first").write_text(str(first))
        sent = generate(url, prefix, assets, rate, samples, first, look)
        time.sleep(3)
        engine.send_signal(signal.SIGTERM)
        engine.wait(120)
        _expect(folder, "trace.npy")
        times = np.load(folder / "trace.npy")
    span, generator, mine = np.diff(np.array(cpu), axis=0)[0].tolist()
    counted = np.concatenate([sent[None], times])[:, int(WARM * rate) :]
    lost = np.isnan(times[HOPS.index("twin")]).sum() + np.isnan(counted[-1]).sum()
    p50, p99, worst = _milliseconds(counted[-1] - counted[0], 50, 99, 100)
    hops = {hop: _milliseconds(part, 50, 99) for hop, part in zip(HOPS, np.diff(counted, axis=0), strict=True)}
    return {
        "name": "ladder_mqtt", "rung": number, "twins": assets, "rate": rate, "seconds": seconds, "over": "mqtt",
        "messages": int(sent.size), "lost": int(lost), "p50_ms": p50, "p99_ms": p99, "worst_ms": worst,
        "opentwins_ms": theirs, "hops_p50_p99_ms": hops, "cpu_generator": round(generator / span, 3),
        "cpu_engine": round(mine / span, 3), "engine_us_a_message": round(1e6 * mine / (span * assets * rate), 1),
    }  # fmt: skip


def _start(folder: Path, url: str, prefix: str, twin: str, assets: int, samples: int, rate: float) -> subprocess.Popen[bytes]:
    """Start the engine and wait until it has subscribed."""
    at = urlsplit(url)
    uri = f"mqtt://{at.username}@{at.hostname}:{at.port}/{prefix}/{{asset}}/{{channel}}?codec=json&session_expiry=600"
    env = {**os.environ, "MQTT_PASSWORD": at.password or "", "TWIN_ENGINE_TWINS": str(ROOT / "bench"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench.ladder_mqtt", "--engine", twin, "--from", uri, "--folder", str(folder)]
    command += ["--sizes", f"{assets},{samples},{rate}"]
    with (folder / "log").open("wb") as log:
        engine = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=ROOT)
    end = time.monotonic() + WAIT
    while not (folder / "ready").exists() and engine.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    _expect(folder, "ready")
    return engine


def _milliseconds(spans: np.ndarray, *percents: int) -> list[float]:
    return np.round(np.nanpercentile(spans, percents) * 1000, 1).tolist()


def _expect(folder: Path, name: str) -> None:
    if not (folder / name).exists():
        raise RuntimeError((folder / "log").read_text()[-3000:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rungs", default="1,2,3")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--engine", help="what the benchmark starts itself")
    parser.add_argument("--from")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--sizes")
    parser.add_argument("--data", help="not used")
    given = vars(parser.parse_args())
    if given["engine"]:
        assets, samples, rate = given["sizes"].split(",")
        engine_process(given["engine"], given["from"], given["folder"], int(assets), int(samples), float(rate))
        return
    for number in map(int, given["rungs"].split(",")):
        print(json.dumps(rung(number, given["seconds"])), flush=True)


if __name__ == "__main__":
    main()
