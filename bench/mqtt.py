"""What a message costs: ``python -m bench.mqtt [--messages N]``.

N messages of one sample (JSON, QoS 1) wait at a real Mosquitto. They are read by the bare client (paho in its own thread, which only
acknowledges) and by the source (logged on disk, acknowledged, decoded), in the same run. Prints one JSON line: messages a second of
wall clock, and CPU microseconds a message, of each. MQTT_URL says where the broker is, as ``make services`` writes it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho

from bench.record import write
from streams import open_source
from twin_engine.records import Reading


def client(url: str, name: str, *, clean: bool = True) -> paho.Client:
    at = urlsplit(url)
    made = paho.Client(paho.CallbackAPIVersion.VERSION2, name, clean_session=clean)
    made.username_pw_set(at.username, at.password)
    made.max_inflight_messages_set(1000)
    made.connect(at.hostname or "", at.port or 1883)
    return made


def fill(url: str, prefix: str, n: int) -> None:
    made = client(url, "")
    made.loop_start()
    infos = [made.publish(f"{prefix}/a{i % 100}/x", b'{"ts": %d, "value": 1.5}' % (1_700_000_000 + i // 100), 1) for i in range(n)]
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


def ours(url: str, prefix: str, n: int) -> tuple[float, float]:
    at = urlsplit(url)
    os.environ["MQTT_PASSWORD"] = at.password or ""
    uri = f"mqtt://{at.username}@{at.hostname}:{at.port}/{prefix}/{{asset}}/{{channel}}?version=3.1.1"
    with tempfile.TemporaryDirectory() as folder:
        first = open_source(uri, folder=Path(folder))
        next(iter(first.items(None)))
        first.close()
        fill(url, prefix, n)
        begin, cpu = time.perf_counter(), time.process_time()
        second = open_source(uri, folder=Path(folder))
        seen = 0
        for item in second.items(None):
            seen += isinstance(item, Reading)
            if seen == n:
                break
        took = time.perf_counter() - begin, time.process_time() - cpu
        second.close()
    return took


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--messages", type=int, default=50_000)
    given.add_argument("--url", default=os.environ.get("MQTT_URL", ""))
    args = given.parse_args()
    stamp, n = time.time_ns(), args.messages
    figures = {}
    for name, call in (("paho", bare), ("source", ours)):
        wall, cpu = call(args.url, f"bench-{stamp}-{name}", n)
        figures |= {f"{name}_messages_per_s": n / wall, f"{name}_cpu_us": 1e6 * cpu / n}
    write("mqtt_in", ours=figures["source_messages_per_s"], peer=figures["paho_messages_per_s"], unit="messages/s", messages=n)
    print(json.dumps({"bench": "mqtt", "messages": n, **{k: round(v, 1) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
