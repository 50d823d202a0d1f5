"""The compose set-up on the real servers, without containers: its credentials, its configurations, its commands; nobody else gets in."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose.credentials import Site, make
from compose.services import KINDS, Missing, Server, start
from compose.services.ports import free_ports
from compose.services.programs import Program, tool
from streams.registry import sink_at
from tests.influx_server import Influx
from tests.services import topics
from tests.services.clients import Listener, consume, produce, refused, refuses_the_untrusting
from tests.services.plugin import absent
from tests.streams.test_mqtt_sink import update
from twin_engine.errors import SinkError

ROOT = Path(__file__).parents[2]
COMMANDS = yaml.safe_load((ROOT / "compose" / "docker-compose.yml").read_text())["services"]
LIGHT = str(Path(__file__).parent / "light.py")


@dataclass
class Place:
    """The servers of the compose file: `root` has the credentials, a folder for each container; `data` what the servers write."""

    root: Path
    data: Path
    mqtt: int
    inside: int
    outside: int
    influx: Influx

    def word(self, owner: str, name: str = "password") -> str:
        return (self.root / owner / name).read_text()

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.root / "engine" / "ca.pem")

    @property
    def words(self) -> set[str]:
        named = ("password", "mqtt_password", "kafka_password", "operator_password", "influx_token", "token")
        return {path.read_text() for name in named for path in self.root.glob(f"*/{name}")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root, data = tmp_path_factory.mktemp("credentials"), tmp_path_factory.mktemp("data")
    mqtt, inside, outside, controller = free_ports(4)
    kafka = Site(f"{root}/kafka", f"{data}/kafka", "localhost", (inside, outside), "127.0.0.1", f"127.0.0.1:{controller}")
    make(root, Site(f"{root}/mosquitto", str(data), "localhost", (mqtt,), "127.0.0.1"), kafka)
    servers: list[Server] = []
    try:
        servers.append(_mosquitto(root, data / "mosquitto-process", mqtt))
        servers.append(_kafka(root, data / "kafka-process", inside))
        try:
            servers.append(start("influx", data / "influx"))
        except Missing as reason:
            absent("influx", str(reason))
        influx = Influx(*servers[-1].env.values())
        (root / "engine" / "influx_token").write_text(influx.token)
        yield Place(root, data, mqtt, inside, outside, influx)
    finally:
        for server in servers:
            server.stop()


def _program(name: str) -> Program:
    reasons: list[str] = []
    for way in KINDS[name].ways:
        try:
            return way()
        except Missing as reason:
            reasons.append(str(reason))
    return absent(name, "; ".join(reasons))


def _mosquitto(root: Path, folder: Path, port: int) -> Server:
    program = _program("mosquitto")
    folder.mkdir()
    configuration = root / "mosquitto" / "mosquitto.conf"
    if os.getuid() == 0:
        configuration.write_text(configuration.read_text() + "user root\n")
    return Server.of("mosquitto", program, folder, ["-c", str(configuration)], probe=f"tcp:{port}", env={}, facts={}).run()


def _kafka(root: Path, folder: Path, port: int) -> Server:
    program = _program("kafka")
    folder.mkdir()
    cluster, scram = ((root / "kafka" / name).read_text() for name in ("cluster", "scram"))
    properties = f"{root}/kafka/server.properties"
    form = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", cluster, "-c", properties, "--add-scram", scram]
    tool(program.line(form, folder), doing="format")
    arguments = ["-Xmx512m", "kafka.Kafka", properties]
    facts = {"user": "engine", "password": (root / "kafka" / "password").read_text(), "ca": str(root / "kafka" / "ca.pem")}
    return Server.of("kafka", program, folder, arguments, probe=f"kafka:localhost:{port}", env={}, facts=facts).run()


def test_mosquitto_lets_each_do_what_it_must(place: Place) -> None:
    def listener(user: str, word: str) -> Listener:
        return Listener(f"mqtts://{user}:{word}@127.0.0.1:{place.mqtt}", f"{user}-client", tls=place.trust)

    with (
        listener("engine", place.word("engine", "mqtt_password")) as engine,
        listener("fleet", place.word("fleet", "mqtt_password")) as fleet,
    ):
        engine.subscribe("plant/rights/#")
        engine.publish("plant/rights/x", b"the engine publishes no measurements")
        fleet.publish("plant/rights/x", b"1")
        assert engine.came.wait(30)
        assert engine.got == [b"1"]
    sink = sink_at(
        f"mqtts://engine@localhost:{place.mqtt}/plant?ca={place.root}/engine/ca.pem&password_file={place.root}/engine/mqtt_password", ()
    )
    sink.open(None)
    sink.write(update(1))
    with pytest.raises(SinkError, match="Not authorized"):  # what may not be published is not taken for delivered
        sink.flush()
    with pytest.raises(SinkError):
        sink.close()
    with listener("engine", "guessed") as guesser:
        assert guesser.reason == "Not authorized"
    with Listener(f"mqtts://127.0.0.1:{place.mqtt}", "nameless", tls=place.trust) as nameless:
        assert nameless.reason == "Not authorized"
    refuses_the_untrusting(place.mqtt)


def test_kafka_lets_the_engine_in_and_nobody_else(place: Place) -> None:
    known: dict[str, Any] = {"security_protocol": "SASL_SSL", "ssl_context": place.trust, "sasl_mechanism": "SCRAM-SHA-512"}
    known |= {"sasl_plain_username": "engine", "sasl_plain_password": place.word("engine", "kafka_password")}
    topics.create(f"localhost:{place.inside}", "t", **known)
    asyncio.run(produce(f"localhost:{place.inside}", "t", b"1", **known))
    assert asyncio.run(consume(f"localhost:{place.outside}", "t", 1, group_id="g", **known)) == [b"1"]
    for port in (place.inside, place.outside):
        refused(f"localhost:{port}", {})
        refused(f"localhost:{port}", {**known, "sasl_plain_password": "guessed"})
        refuses_the_untrusting(port)


class _Containers:
    """The engine's containers as processes: commands of the compose file, with the addresses and paths of this machine."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place, self.folder = place, folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = dict(zip(("worker", "sink", "edge"), free_ports(3), strict=True))
        (folder / "state").mkdir()  # a volume
        for name in ("service.toml", "edge.toml"):
            (folder / name).write_text(self._here((ROOT / "compose" / name).read_text(), "engine"))

    def _here(self, text: str, owner: str) -> str:
        at = self._place
        for there, here in {
            "/credentials": f"{at.root}/{owner}", "kafka:9092": f"localhost:{at.inside}", "mosquitto:8883": f"localhost:{at.mqtt}",
            'host = "mosquitto"': f'host = "localhost"\nport = {at.mqtt}',
            "http://influxdb:8086/twins?org=twin-engine": f"{at.influx.url}/{at.influx.bucket}?org={at.influx.org}",
            "/etc/twin-engine": str(self.folder), "/var/lib/twin-engine": str(self.folder / "state"),
        }.items():  # fmt: skip
            text = text.replace(there, here)
        return text

    def begin(self, name: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start one; its twin is the light one."""
        service = COMMANDS[name]
        (credentials,) = [v.partition(":")[0].removeprefix("credentials-") for v in service["volumes"] if "/credentials" in v]
        command = [self._here(argument, credentials) for argument in service["command"]]
        command = [LIGHT if argument == "host" and "entrypoint" not in service else argument for argument in command]
        program = ["-m", *service["entrypoint"][2:]] if "entrypoint" in service else ["-m", "twin_engine.cli"]
        said = {"TWIN": LIGHT, "LOG__LEVEL": "debug", "METRICS__PORT": str(self.ports.get(name, 0)), **variables}
        environment = {**os.environ, **{f"TWIN_ENGINE__{key}": value for key, value in said.items()}}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen([sys.executable, *program, *command], cwd=ROOT, env=environment, stdout=log, stderr=log)
        return self.processes[name]

    def end(self) -> dict[str, int]:
        """End all as a stop of the containers does; returns their exit codes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(60) for name, process in self.processes.items()}


@pytest.fixture
def containers(place: Place, tmp_path: Path) -> Iterator[_Containers]:
    made = _Containers(place, tmp_path)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


def _until(condition: Any, containers: _Containers, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        ended = {name: code for name, process in containers.processes.items() if (code := process.poll()) is not None}
        logs = {name: (containers.folder / f"{name}.log").read_text()[-1000:] for name in containers.processes}
        assert not ended, (ended, logs)
        assert time.monotonic() < end, logs
        time.sleep(0.2)


def test_the_commands_bring_both_fleets_to_the_database_and_no_file_tells_a_secret(place: Place, containers: _Containers) -> None:
    wrong = containers.begin("edge", MQTT__PASSWORD_FILE=str(place.root / "engine" / "kafka_password"))
    assert wrong.wait(60) == 4
    for name in ("worker", "sink", "edge", "fleet", "edge-fleet"):
        containers.begin(name)
    of_twin = '|> range(start: -1h) |> filter(fn: (r) => r._measurement == "light")'
    text = f'from(bucket: "{place.influx.bucket}") {of_twin} |> group(columns: ["asset"]) |> last()'
    everyone = {f"host-{k:03d}" for k in range(1, 21)} | {f"edge-{k}" for k in range(1, 6)}
    _until(lambda: {row["asset"] for row in place.influx.query(text)} >= everyone, containers)
    for name, port in containers.ports.items():
        check = COMMANDS[name]["healthcheck"]["test"][3].replace("9100", str(port))
        subprocess.run([sys.executable, "-c", check], check=True)
        assert b"twin_engine_" in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read()
    assert set(containers.end().values()) == {0}
    written = [path for folder in (containers.folder, place.data) for path in folder.rglob("*") if path.is_file()]
    written = [path for path in written if path.suffix in {"", ".log", ".jsonl", ".safetensors"}]
    written.append(containers.folder / "state" / "influx.json")
    assert len(written) > 8
    told = [(path.name, len(word)) for path in written for word in place.words if word.encode() in path.read_bytes()]
    assert not told


def test_credentials_are_made_once_and_read_by_their_owner_only(tmp_path: Path) -> None:
    assert make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not make(tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for folder in tmp_path.iterdir():
        assert folder.stat().st_mode & 0o77 == 0, folder
    words = [text for path, text in before.items() if path.name in {"password", "mqtt_password", "operator_password", "token"}]
    assert len(set(words)) == len(words)
    assert all(len(text) >= 24 for text in words)
