"""A twin on a broker from the command line, stopped and begun again; and what goes on where it was: codecs, records cut in two, outputs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from compose.services import Server
from streams import Spool
from streams.codecs import Pattern, open_codec
from streams.registry import sink_at
from tests.room import room
from tests.services.clients import PATIENCE, Listener
from tests.streams.mqtt_helpers import BEGIN, address, last, publish, source, take
from tests.streams.test_mqtt_sink import until as heard
from tests.streams.test_mqtt_sink import update
from twin_engine.records import Reading, parse_line
from twin_engine.run import SNAPSHOT
from twin_engine.snapshot import Snapshot, read_snapshot

COUNT = 800


def snapshot(folder: Path) -> Snapshot:
    found = read_snapshot(folder / "state" / SNAPSHOT)
    assert found is not None
    return found


def command(folder: Path, uri: str, samples: int) -> None:
    """Run the command until a snapshot holds so many samples, and end it as a service is ended."""
    names = ["--asset", "a", "--asset", "b", "--state", str(folder / "state"), "--to", f"jsonl:{folder / 'events.jsonl'}"]
    line = [sys.executable, "-m", "twin_engine.cli", "run", "room.py", "--from", uri, *names]
    with subprocess.Popen(line, stderr=subprocess.PIPE, env={**os.environ, "TWIN_ENGINE_TWINS": str(Path.cwd())}) as process:
        end = time.monotonic() + 4 * PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if (folder / "state" / SNAPSHOT).exists() and snapshot(folder).document["telemetry"]["samples"] >= samples:
                break
            threading.Event().wait(0.05)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors.decode()


def test_a_command_that_is_stopped_and_begun_again_equals_an_undisturbed_one(
    mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("room.py").write_text(room("x", "1"))
    x = np.random.default_rng(5).normal(size=COUNT)
    x[700] += 20
    said = [(a, msgspec.json.encode({"ts": BEGIN + i, "value": value})) for i, value in enumerate(x.tolist()) for a in "ab"]
    for cuts in ((len(said),), (601, len(said))):
        prefix, folder = f"{unique}-{len(cuts)}", tmp_path / str(len(cuts))
        uri, begin = address(mosquitto, f"{prefix}/{{asset}}/{{channel}}", monkeypatch), 0
        one = source(uri, folder / "state")
        next(one.items(None))  # subscribes, so that the broker keeps what is published
        one.close()
        for cut in cuts:
            publish(mosquitto, [(f"{prefix}/{a}/x", raw) for a, raw in said[begin:cut]])
            command(folder, uri, cut)
            begin = cut
    whole, parts = (tmp_path / name / "events.jsonl" for name in "12")
    assert {parse_line(line).asset for line in whole.read_bytes().splitlines()} == {"a", "b"}
    assert whole.read_bytes() == parts.read_bytes()
    a, b = snapshot(whole.parent), snapshot(parts.parent)
    assert a.document["telemetry"] == b.document["telemetry"]
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name], err_msg=name)


def test_a_codec_goes_on_with_what_births_said(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = open_codec("sparkplug", Pattern("#"), {"group": unique})

    def said(i: int) -> list[tuple[str, bytes]]:
        return list(codec.encode(Reading("pump", ("x",), np.array([(BEGIN + i) * 10**9]), np.array([[float(i)]]))))

    uri = address(mosquitto, f"spBv1.0/{unique}/#", monkeypatch, codec="sparkplug")
    one = source(uri, tmp_path)
    items = one.items(None)
    next(items)
    publish(mosquitto, said(0))
    found = take(items, lambda f: len(f) >= 1)
    one.close()
    later = said(1)
    assert b"pump" not in later[0][1]
    assert len(later) == 1  # no birth
    publish(mosquitto, later)
    again = source(uri, tmp_path)
    found += take(again.items(last(found)), lambda f: len(f) >= 1)
    again.close()
    assert [(item.asset, float(item.values[0, -1])) for item in found if isinstance(item, Reading)][-2:] == [("pump", 0.0), ("pump", 1.0)]


def test_a_record_is_taken_up_where_it_was_left(mosquitto: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = address(mosquitto, f"{unique}/all", monkeypatch)
    one = source(uri, tmp_path)
    items = one.items(None)
    next(items)
    publish(mosquitto, [(f"{unique}/all", msgspec.json.encode([{"asset": a, "ts": BEGIN, "x": 1.0} for a in "abc"]))])
    found = take(items, lambda f: len(f) >= 3)
    one.close()
    assert [item.asset for item in found if isinstance(item, Reading)] == ["a", "b", "c"]
    for i in range(2):
        again = source(uri, tmp_path)
        rest = take(again.items(found[i].position), lambda f: len(f) >= 2 - i)  # noqa: B023 - called at once
        assert [item.asset for item in rest if isinstance(item, Reading)] == ["a", "b", "c"][i + 1 :]
        again.close()


def test_outputs_wait_in_a_spool_while_the_broker_is_down(
    own_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_server("mosquitto")
    url = server.env["MQTT_URL"]
    monkeypatch.setattr("streams.publisher._PATIENCE", 0.2)
    spool = Spool(sink_at(address(url, "twins", monkeypatch), ()), tmp_path / "spool", retry=0.0)
    with Listener(url, "listener") as listener:
        listener.subscribe("twins/#")
        spool.open(None)
        spool.write(update(2))
        spool.flush()
        heard(listener, 2)
    server.stop()
    spool.write(update(3))
    position = spool.flush()
    assert spool.down
    spool.close()
    server.run()
    with Listener(url, "listener") as listener:
        listener.subscribe("twins/#")
        spool.open(position)
        spool.flush()
        assert not spool.down
        heard(listener, 3)
    assert [parse_line(raw).id for raw in listener.got][-3:] == ["e0", "e1", "e2"]
    spool.close()
