"""A broker of MQTT said key by key in the file of a service: the same as an address; `run` and `bridge` read it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

pytest.importorskip("aiokafka")
pytest.importorskip("pydantic_settings")

from streams.kafka.client import Kafka
from streams.kafka.topics import ensure
from streams.mqtt_address import parse_broker
from streams.registry import SOURCES
from streams.uri import parse
from tests.kafka.test_bridge import read
from tests.streams.mqtt_helpers import address, messages, publish, source
from twin_engine.config import read_config
from twin_engine.errors import InputError, SinkError
from twin_engine.service import run

TWIN = """
from twin_engine import Channel, Stream, Twin
twin = Twin("room", "1 s", [Stream("s", 1, [Channel("x")])], {})
"""


def service(folder: Path, mosquitto: str, prefix: str, bootstrap: str = "") -> Path:
    at, path = urlsplit(mosquitto), folder / "service.toml"
    path.write_text(f"""
twin = "room.py"
assets = ["a", "b"]
[kafka]
bootstrap = "{bootstrap}"
[input]
topic = "{prefix}"
[mqtt]
host = "{at.hostname}"
port = {at.port}
user = "{at.username}"
topic = "{prefix}/{{asset}}/{{channel}}"
codec = "json"
qos = 1
password_env = "BROKER_SECRET"
""")
    return path


def test_keys_say_what_an_address_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S", "x")
    path = tmp_path / "c.toml"
    path.write_text("""
twin = "host"
[mqtt]
host = "broker"
port = 8883
user = "me@plant"
topic = "org/{asset}/a b?c"
codec = "examon"
qos = 1
version = "3.1.1"
password_env = "S"
keepalive = 30
options = {unit = "m/s"}
""")
    uri = "mqtt://me%40plant@broker:8883/org/{asset}/a b%3Fc?codec=examon&qos=1&version=3.1.1&password_env=S&keepalive=30&unit=m/s"
    said, same = (parse(text, SOURCES, {}, InputError) for text in (read_config(path).mqtt.address(), uri))
    a, b = (parse_broker(one, "codec", "unit") for one in (said, same))
    assert (a.host, a.port, a.user, a.topic, a.version, a.qos, a.keepalive) == (
        b.host,
        b.port,
        b.user,
        b.topic,
        b.version,
        b.qos,
        b.keepalive,
    )
    assert a.topic == "org/{asset}/a b?c"
    assert {**said.options, "keepalive": "30"} == same.options
    path.write_text('twin = "host"\n[mqtt]\ntls = true\nhost = "h"\ntopic = "t"\n')
    assert read_config(path).mqtt.address() == "mqtts://h/t?"
    path.write_text('twin = "host"\n[mqtt]\nquos = 1\n')
    with pytest.raises(InputError, match=r"Did you mean 'mqtt\.qos'"):
        read_config(path)
    path.write_text('twin = "host"\n')
    with pytest.raises(InputError, match="--from mqtt://"):
        read_config(path).mqtt.address()


def test_run_and_bridge_read_the_broker_of_the_file(
    mosquitto: str, kafka: str, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room.py").write_text(TWIN)
    monkeypatch.setenv("BROKER_SECRET", urlsplit(mosquitto).password or "")
    file, said = service(tmp_path, mosquitto, unique, kafka), messages(unique, 60)
    for folder in ("run", "bridge"):  # subscribes, so that the broker keeps what is published
        one = source(address(mosquitto, f"{unique}/{{asset}}/{{channel}}", monkeypatch), tmp_path / folder)
        next(one.items(None))
        one.close()
    monkeypatch.delenv("MQTT_PASSWORD")
    publish(mosquitto, said)
    with pytest.raises(InputError, match=r"key 'twin': expected host, found room\.py"):
        run("host", str(file), ["jsonl:e.jsonl"])
    with pytest.raises(SinkError, match="expected a sink"):
        run("room.py", str(file), [])
    file.write_text(file.read_text() + '[sinks.events]\nto = "jsonl:e.jsonl"\n')
    report = run("room.py", str(file), [], state=tmp_path / "run", duration=2.0)
    assert report.samples == 60
    assert (tmp_path / "e.jsonl").exists()
    asyncio.run(ensure(Kafka(kafka), {unique: {}}, 1))
    line = [sys.executable, "-m", "twin_engine.cli", "bridge", str(file), "--state", str(tmp_path / "bridge")]
    with subprocess.Popen(line, env=os.environ, stderr=subprocess.PIPE) as process:
        records = asyncio.run(read(kafka, unique, 60))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    assert {(r.subject, r.raw) for r in records} == set(said)
    assert all(msgspec.json.decode(r.raw) for r in records)
