"""What a message costs: ``python -m bench.mqtt [--messages N] [--times K]``.

N messages of one sample (JSON, QoS 1) wait at a real Mosquitto. They are read by the bare client (paho in its own thread, which only
acknowledges), by the source (logged on disk, acknowledged, decoded), and by the source with 1 % malformed messages among them; all three
K times, in turns forwards and backwards. Prints one JSON line: messages a second of wall clock and CPU microseconds a message of each, and
the medians of the ratios within a turn (above 1: the first named is the better). MQTT_URL says where the broker is, as ``make services``
writes it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import paho.mqtt.client as paho

from bench.record import write
from streams import open_source
from twin_engine.records import Reading, Reject

BAD = (
    b"",
    b"{",
    b"\xff\xfe",
    b"NaN",
    b'{"ts": "noon", "value": 1}',
    b'{"ts": 1700000000}',
    b'{"ts": 1700000000, "value": "x"}',
    b"[1, 2]",
    b"null",
)


def client(url: str, name: str, *, clean: bool = True) -> paho.Client:
    at = urlsplit(url)
    made = paho.Client(paho.CallbackAPIVersion.VERSION2, name, clean_session=clean)
    made.username_pw_set(at.username, at.password)
    made.max_inflight_messages_set(1000)
    made.connect(at.hostname or "", at.port or 1883)
    return made


def fill(url: str, prefix: str, n: int, *, poison: bool = False) -> None:
    made = client(url, "")
    made.loop_start()
    said = [b'{"ts": %d, "value": 1.5}' % (1_700_000_000 + i // 100) for i in range(n)]
    if poison:
        said[::100] = [BAD[i % len(BAD)] for i in range(len(said[::100]))]
    infos = [made.publish(f"{prefix}/a{i % 100}/x", raw, 1) for i, raw in enumerate(said)]
    for info in infos:
        info.wait_for_publish(120)
    made.disconnect()
    made.loop_stop()


def bare(url: str, prefix: str, n: int) -> tuple[float, float]:
    subscribed, done, seen = threading.Event(), threading.Event(), 0
    first = client(url, prefix, clean=False)
    first.on_subscribe = lambda *_: subscribed.set()
    first.on_connect = lambda *_: first.subscribe(f"{prefix}/#", 1)
    first.loop_start()
    subscribed.wait(10)
    first.disconnect()
    first.loop_stop()
    fill(url, prefix, n)

    def take(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == n:
            done.set()

    begin, cpu = time.perf_counter(), time.process_time()
    second = client(url, prefix, clean=False)
    second.on_message = take
    second.loop_start()
    assert done.wait(300)
    took = time.perf_counter() - begin, time.process_time() - cpu
    second.disconnect()
    second.loop_stop()
    return took


def ours(url: str, prefix: str, n: int, *, poison: bool = False) -> tuple[float, float]:
    at = urlsplit(url)
    os.environ["MQTT_PASSWORD"] = at.password or ""
    uri = f"mqtt://{at.username}@{at.hostname}:{at.port}/{prefix}/{{asset}}/{{channel}}?version=3.1.1"
    with tempfile.TemporaryDirectory() as folder:
        first = open_source(uri, folder=Path(folder))
        next(iter(first.items(None)))
        first.close()
        fill(url, prefix, n, poison=poison)
        begin, cpu = time.perf_counter(), time.process_time()
        second = open_source(uri, folder=Path(folder))
        seen = 0
        for item in second.items(None):
            seen += isinstance(item, Reading | Reject)
            if seen == n:
                break
        took = time.perf_counter() - begin, time.process_time() - cpu
        second.close()
    return took


def poisoned(url: str, prefix: str, n: int) -> tuple[float, float]:
    return ours(url, prefix, n, poison=True)


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--messages", type=int, default=50_000)
    given.add_argument("--times", type=int, default=5)
    given.add_argument("--url", default=os.environ.get("MQTT_URL", ""))
    args = given.parse_args()
    n, calls = args.messages, {"paho": bare, "source": ours, "poisoned": poisoned}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for k in range(args.times):
        for name in list(calls)[:: 1 if k % 2 else -1]:
            took[name].append(calls[name](args.url, f"bench-{time.time_ns()}-{name}", n))
    figures: dict[str, float] = {}
    for name, each in took.items():
        figures |= {
            f"{name}_messages_per_s": n / median(wall for wall, _ in each),
            f"{name}_cpu_us": 1e6 / n * median(cpu for _, cpu in each),
        }
    ratios = {
        f"{a}_by_{b}_{what}": median(y[k] / x[k] for x, y in zip(took[a], took[b], strict=True))
        for a, b in (("source", "paho"), ("poisoned", "source"))
        for k, what in enumerate(("speed", "cpu_thrift"))
    }
    write(
        "mqtt_in",
        ours=ratios["source_by_paho_speed"] * figures["paho_messages_per_s"],
        peer=figures["paho_messages_per_s"],
        unit="messages/s",
        messages=n,
    )
    print(json.dumps({"bench": "mqtt", "messages": n, "times": args.times, **{k: round(v, 3) for k, v in (figures | ratios).items()}}))


if __name__ == "__main__":
    main()
