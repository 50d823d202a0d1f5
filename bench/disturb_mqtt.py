"""A twin on MQTT whose broker goes, or whose input is too much: ``python -m bench.disturb_mqtt WHAT [--seconds S] [--rate N] [--qos Q]``.

restart: Mosquitto is stopped by SIGTERM in the middle of a stream of N messages a second, is away for S seconds (default 10), and is
there again with its data. overload: messages come for S seconds (default 600) at twice the N a second that the engine is let take, then it
is let go on as fast as it can; the log on disk has a cap of ``--cap`` bytes, so it fills. A process of its own runs the twin, as
``twin-engine run`` does, with a state folder; the broker is one that this starts.

With QoS 1 nothing may be lost: events and the final snapshot are compared with an engine that was given the same samples in memory. With
QoS 0 what was sent must be, to the message, what was logged, what found no room in the log, and what the broker says in ``$SYS`` that it
dropped. Prints one JSON line: ``nothing_lost`` or ``counted_exactly``, the counts, the most that the log took on disk and that the process
grew by, in MiB.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

import streams
from bench.fleet_of_one_channel import twin
from bench.ladder_mqtt import length, text
from bench.trial import values_of
from bench.trial_values import RATE, T0
from compose.services import Server, start
from streams.source_mqtt import MqttSource
from twin_engine.engine import Engine
from twin_engine.records import Item, Reading, parse_line
from twin_engine.run import SNAPSHOT, Run
from twin_engine.snapshot import read_snapshot

ROOT = Path(__file__).parents[1]
ASSETS, SEED = 100, 0
NAMES = [f"a{a:03d}" for a in range(ASSETS)]
CAP = 32 << 20  # bytes of the log
PATIENCE = 120.0  # s for the engine to be there, and, without a message, for the rest
TURN = 0.02  # s between the publisher's turns
WINDOW = 5000  # messages on their way
LOOK = 0.2


def sample(i: int) -> tuple[str, int, float]:
    """Return asset, time in ns and value of the i-th message."""
    k, a = divmod(i, ASSETS)
    return NAMES[a], (T0 * RATE + k) * 10**9 // RATE, float(values_of(k, ASSETS, SEED)[a])


def engine_process(folder: Path, uri: str, takes: float, cap: int) -> None:
    """Run the twin; take no more than so many readings a second while ``slow`` is there, and tell figures in ``figures.json``."""
    source = streams.open_source(uri, twin=twin, folder=folder / "state")
    assert isinstance(source, MqttSource)
    source._cap = cap  # noqa: SLF001 - an address takes none as small as a short trial needs
    items, slow = source.items, folder / "slow"

    sink = streams.Spool(streams.open_sink(f"jsonl:{folder}/events.jsonl?revisions=all"), folder / "spool")
    run = Run(twin, source, [sink], assets=NAMES, state_dir=folder / "state")

    def tell() -> None:
        while True:
            log = sum(file.stat().st_size for file in (folder / "state" / "mqtt").glob("*.log"))
            (folder / "figures.draft").write_text(json.dumps({**run.health(), "log_bytes": log}))
            (folder / "figures.draft").replace(folder / "figures.json")
            time.sleep(LOOK)

    def paced(position: Any) -> Iterator[Item]:
        due = 0.0
        for item in items(position):
            if not due:
                threading.Thread(target=tell, daemon=True).start()
            if isinstance(item, Reading) and slow.exists():
                due = max(due, time.monotonic() - 1) + 1 / takes
                time.sleep(max(0.0, due - time.monotonic()))
            due = due or 1.0
            yield item

    source.items = paced  # type: ignore[method-assign]
    run()
    with suppress(FileNotFoundError):
        (folder / "end.json").write_text(json.dumps(run.health()))


class Publisher(threading.Thread):
    """MQTT 3.1.1 over a plain socket: publishes at a rate until told to end; ``sent`` counts.

    With QoS 1 a message is kept until the broker has acknowledged it, and sent again in each new connection.
    """

    def __init__(self, url: str, prefix: str, rate: float, qos: int) -> None:
        super().__init__(daemon=True)
        self.sent, self.rate, self._prefix, self._qos, self._at = 0, rate, prefix, qos, urlsplit(url)
        self._end, self._odd = threading.Event(), 0
        self._unacknowledged = deque[bytes]()
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        made = socket.create_connection((self._at.hostname or "", self._at.port or 1883), 5)
        user, password = (self._at.username or "").encode(), (self._at.password or "").encode()
        body = b"\0\4MQTT\4\xc2\0\0" + text(self._prefix.encode()) + text(user) + text(password)
        made.sendall(b"\x10" + length(len(body)) + body)
        if (answer := made.recv(4)) != b"\x20\2\0\0":
            raise OSError(f"the broker's answer: {answer!r}")
        made.settimeout(PATIENCE)
        made.sendall(b"".join(self._unacknowledged))
        self._odd = 0
        return made

    def run(self) -> None:
        """Publish what is due at each turn."""
        begin = time.monotonic()
        while not self._end.is_set() or self._unacknowledged:
            try:
                room = WINDOW - len(self._unacknowledged) if self._qos else WINDOW
                due = 0 if self._end.is_set() else int((time.monotonic() - begin) * self.rate)
                fresh = [self._packet(i) for i in range(self.sent, min(due, self.sent + room))]
                self._unacknowledged.extend(fresh if self._qos else ())
                self.sent += len(fresh)
                self._socket.sendall(b"".join(fresh))
                self._listen()
            except OSError:
                self._again()
        self._socket.sendall(b"\xe0\0")
        self._socket.close()

    def _packet(self, i: int) -> bytes:
        asset, ns, value = sample(i)
        body = text(f"{self._prefix}/{asset}/value".encode()) + ((1 + i % 65535).to_bytes(2, "big") if self._qos else b"")
        body += b'{"ts": %.1f, "value": %.17g}' % (ns / 1e9, value)
        return bytes([0x30 | self._qos << 1]) + length(len(body)) + body

    def _listen(self) -> None:
        """Take acknowledgements, four bytes each, for a turn."""
        end = time.monotonic() + TURN
        while (left := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                if not (data := self._socket.recv(1 << 16)):
                    raise OSError("the broker has hung up")
                self._odd += len(data)
                for _ in range(self._odd // 4):
                    self._unacknowledged.popleft()
                self._odd %= 4

    def _again(self) -> None:
        self._socket.close()
        while True:
            with suppress(OSError):
                self._socket = self._connect()
                return
            time.sleep(0.5)

    def close(self) -> None:
        """End, and wait until all is out; raises RuntimeError where the broker does not take it."""
        self._end.set()
        self.join(PATIENCE)
        if self.is_alive():
            raise RuntimeError(f"the broker has not taken {len(self._unacknowledged)} messages")


class Trial:
    """A broker, an engine and a publisher; closed by ``end``."""

    def __init__(self, folder: Path, server: Server, rate: float, qos: int, takes: float = 1e9, cap: int = CAP) -> None:
        self.folder, self.server, self._seen = folder, server, list[dict[str, float]]()
        at, prefix = urlsplit(server.env["MQTT_URL"]), f"t{time.time_ns()}"
        if takes < 1e9:
            (folder / "slow").touch()
        uri = f"mqtt://{at.username}@{at.hostname}:{at.port}/{prefix}/{{asset}}/{{channel}}?codec=json&qos={qos}"
        command = [sys.executable, "-m", "bench.disturb_mqtt", "engine", "--folder", str(folder), "--from", uri]
        env = {**os.environ, "MQTT_PASSWORD": at.password or "", "OMP_NUM_THREADS": "1"}
        with (folder / "log").open("wb") as log:
            self._engine = subprocess.Popen([*command, "--rate", str(takes), "--cap", str(cap)], stdout=log, stderr=log, env=env, cwd=ROOT)
        self._process = psutil.Process(self._engine.pid)
        self.until("the engine is there", (folder / "figures.json").exists)
        self.publisher = Publisher(server.env["MQTT_URL"], prefix, rate, qos)
        self.publisher.start()

    def figures(self) -> dict[str, float]:
        """Return the engine's figures, its memory with them."""
        found = json.loads((self.folder / "figures.json").read_text())
        self._seen.append({"rss": self._process.memory_info().rss, "log": found["log_bytes"]})
        return found

    def new(self) -> int:
        """Return how many samples the engine has taken, those given again left out."""
        found = self.figures()
        return int(found["samples"] - found.get("dropped_duplicate", 0) - found.get("dropped_late", 0))

    def until(self, what: str, true: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait; raises RuntimeError with the engine's log."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end or self._engine.poll() is not None:
                raise RuntimeError(f"waited in vain until {what}: {(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(LOOK)

    def drained(self, enough: Callable[[], bool]) -> float:
        """Wait until the engine has enough, as long as it moves; return the seconds."""
        begin = moved = time.monotonic()
        had = self.new()
        while not enough():
            time.sleep(LOOK)
            now = self.new()
            had, moved = now, time.monotonic() if now > had else moved
            if time.monotonic() - moved > PATIENCE:
                break  # the verdict says what is missing
        return round(time.monotonic() - begin, 1)

    def memory(self) -> dict[str, float]:
        """Return the most that the log took and the process grew by, MiB."""
        rss = [seen["rss"] for seen in self._seen]
        return {
            "log_mb": round(max(seen["log"] for seen in self._seen) / 2**20, 2), "memory_growth_mb": round((max(rss) - rss[0]) / 2**20, 1)
        }  # fmt: skip

    def end(self) -> dict[str, float]:
        """End the engine in order; return its last figures."""
        self._engine.send_signal(signal.SIGTERM)
        code = self._engine.wait(PATIENCE)
        if code:
            raise RuntimeError(f"the engine ended with {code}: {(self.folder / 'log').read_text()[-3000:]}")
        return json.loads((self.folder / "end.json").read_text())

    def kill(self) -> None:
        """End what still runs."""
        self._engine.kill()
        self._engine.wait()

    def as_undisturbed(self, sent: int) -> bool:
        """Whether events and snapshot are those of an engine that was given what was sent."""
        engine, events = Engine(twin, NAMES, None), dict[Any, Any]()
        for begin in range(0, sent, 10_000):
            given = [sample(i) for i in range(begin, min(sent, begin + 10_000))]
            readings = [Reading(a, ("value",), np.array([ns]), np.array([[x]]), arrival=ns) for a, ns, x in given]
            for update in engine.put_all(readings):
                events.update({(e.id, e.revision): e for e in update.events})
        lines = map(parse_line, (self.folder / "events.jsonl").read_bytes().splitlines())
        told = {(e.id, e.revision): e for e in lines if e.kind != "absence"}  # which says that nothing came, and when
        found, expected = read_snapshot(self.folder / "state" / SNAPSHOT), engine.snapshot(None)
        if found is None or told != events or found.arrays.keys() != expected.arrays.keys():
            return False
        return all(np.array_equal(found.arrays[name], expected.arrays[name], equal_nan=True) for name in expected.arrays)


def restart(folder: Path, server: Server, seconds: float, rate: float, around: float = 20.0) -> dict[str, Any]:
    """Stop the broker for so many seconds, ``around`` seconds of messages before and after."""
    trial = Trial(folder, server, rate, 1)
    try:
        time.sleep(around)
        server.stop()
        begin = time.monotonic()
        time.sleep(seconds)
        server.run()
        down = time.monotonic() - begin
        back = trial.drained(lambda: trial.new() >= trial.publisher.sent - rate)
        time.sleep(around)
        trial.publisher.close()
        sent = trial.publisher.sent
        trial.drained(lambda: trial.new() >= sent)
        reconnects, end = int(trial.figures()["mqtt_reconnects"]), trial.end()
        again = int(end.get("dropped_duplicate", 0) + end.get("dropped_late", 0))
        return {
            "sent": sent, "taken": int(end["samples"]) - again, "given_again": again, "down_s": round(down, 1), "drained_s": back,
            "reconnects": reconnects, **trial.memory(), "nothing_lost": trial.as_undisturbed(sent),
        }  # fmt: skip
    finally:
        trial.kill()


def overload(folder: Path, server: Server, seconds: float, rate: float, qos: int, cap: int = CAP) -> dict[str, Any]:
    """Publish at twice the rate that the engine is let take."""
    trial = Trial(folder, server, 2 * rate, qos, rate, cap)
    try:
        begin, taken = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            time.sleep(1)
            taken = trial.new()
        behind, took = trial.publisher.sent - taken, time.monotonic() - begin
        (folder / "slow").unlink()
        trial.publisher.close()
        sent = trial.publisher.sent
        time.sleep(2)  # the broker's own count comes each second
        back = trial.drained((lambda: trial.new() >= sent) if qos else (lambda: _accounted(trial.figures()) >= sent))
        end = trial.end()
        found = {
            "qos": qos, "sent": sent, "sent_per_s": round(sent / took), "taken_per_s": round(taken / took), "behind": behind,
            "logged": int(end["mqtt_messages"]), "dropped_log_full": int(end.get("mqtt_dropped_log_full", 0)),
            "dropped_by_broker": int(end.get("mqtt_dropped_by_broker", 0)), "taken": int(end["samples"]), "drained_s": back,
            **trial.memory(), "cap_mb": round(cap / 2**20, 2),
        }  # fmt: skip
        if qos:
            return {**found, "nothing_lost": trial.as_undisturbed(sent)}
        exact = found["logged"] + found["dropped_log_full"] + found["dropped_by_broker"] == sent
        return {**found, "counted_exactly": exact and found["taken"] == found["logged"]}
    finally:
        trial.kill()


def _accounted(found: dict[str, float]) -> float:
    """Return the messages that the engine has taken or said to be dropped."""
    return found["samples"] + found.get("mqtt_dropped_log_full", 0) + found.get("mqtt_dropped_by_broker", 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("restart", "overload", "engine"), help="engine: what the others start themselves")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1)
    parser.add_argument("--cap", type=int, default=CAP)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--from")
    parser.add_argument("--data", help="not used")
    given = parser.parse_args()
    if given.what == "engine":
        engine_process(given.folder, vars(given)["from"], given.rate, given.cap)
        return
    with tempfile.TemporaryDirectory() as home, start("mosquitto", Path(home) / "broker") as server:
        folder = Path(home) / "engine"
        folder.mkdir()
        if given.what == "restart":
            found = restart(folder, server, given.seconds or 10.0, given.rate)
        else:
            found = overload(folder, server, given.seconds or 600.0, given.rate, given.qos, given.cap)
    print(json.dumps({"name": f"mqtt_{given.what}", "rate": given.rate, **found}))


if __name__ == "__main__":
    main()
