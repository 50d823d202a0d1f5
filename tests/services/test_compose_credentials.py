"""The credentials and configurations of the compose set-up, on the real servers: who has them gets in, and nobody else."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from compose.credentials import Site, make
from compose.services import KINDS, Missing, Server
from compose.services.ports import free_ports
from compose.services.programs import Program, tool
from tests.services import topics
from tests.services.clients import Listener, consume, produce, refused, refuses_the_untrusting
from tests.services.plugin import absent


def _program(name: str) -> Program:
    reasons: list[str] = []
    for way in KINDS[name].ways:
        try:
            return way()
        except Missing as reason:
            reasons.append(str(reason))
    return absent(name, "; ".join(reasons))


@pytest.fixture
def running() -> Callable[..., Server]:
    servers: list[Server] = []

    def begin(server: Server) -> Server:
        servers.append(server)
        return server.run()

    yield begin
    for server in servers:
        server.stop()


def _word(root: Path, owner: str, name: str = "password") -> str:
    return (root / owner / name).read_text()


def test_mosquitto_of_the_compose_file(tmp_path: Path, running: Callable[..., Server]) -> None:
    program = _program("mosquitto")
    port = free_ports(1)[0]
    (tmp_path / "data").mkdir()
    make(tmp_path, Site(f"{tmp_path}/mosquitto", f"{tmp_path}/data", "mosquitto", (port,), "127.0.0.1"))
    configuration = tmp_path / "mosquitto" / "mosquitto.conf"
    if os.getuid() == 0:
        configuration.write_text(configuration.read_text() + "user root\n")
    running(Server.of("mosquitto", program, tmp_path, ["-c", str(configuration)], probe=f"tcp:{port}", env={}, facts={}))
    trust = ssl.create_default_context(cafile=tmp_path / "engine" / "ca.pem")

    def listener(user: str, word: str) -> Listener:
        return Listener(f"mqtts://{user}:{word}@127.0.0.1:{port}", f"{user}-client", tls=trust)

    with (
        listener("engine", _word(tmp_path, "engine", "mqtt_password")) as engine,
        listener("fleet", _word(tmp_path, "fleet", "mqtt_password")) as fleet,
    ):
        engine.subscribe("plant/#")
        engine.publish("plant/a/x", b"the engine publishes no measurements")
        fleet.publish("plant/a/x", b"1")
        assert engine.came.wait(30)
        assert engine.got == [b"1"]
    with listener("engine", "guessed") as guesser:
        assert guesser.reason == "Not authorized"
    with Listener(f"mqtts://127.0.0.1:{port}", "nameless", tls=trust) as nameless:
        assert nameless.reason == "Not authorized"
    refuses_the_untrusting(port)


def test_kafka_of_the_compose_file(tmp_path: Path, running: Callable[..., Server]) -> None:
    program = _program("kafka")
    inside, outside, controller = free_ports(3)
    home = tmp_path / "kafka"
    site = Site(str(home), f"{tmp_path}/data", "localhost", (inside, outside), "127.0.0.1", f"127.0.0.1:{controller}")
    make(tmp_path, kafka_at=site)
    form = ["format", "--ignore-formatted", "-t", _word(tmp_path, "kafka", "cluster"), "-c", f"{home}/server.properties"]
    tool(program.line(["kafka.tools.StorageTool", *form, "--add-scram", _word(tmp_path, "kafka", "scram")], tmp_path), doing="format")
    arguments = ["-Xmx512m", "kafka.Kafka", f"{home}/server.properties"]
    running(Server.of("kafka", program, tmp_path, arguments, probe="log:Kafka Server started", env={}, facts={}))
    trust = ssl.create_default_context(cafile=tmp_path / "engine" / "ca.pem")
    known = {
        "security_protocol": "SASL_SSL", "ssl_context": trust,
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "engine", "sasl_plain_password": _word(tmp_path, "engine", "kafka_password"),
    }  # fmt: skip
    topics.create(f"localhost:{inside}", "t", **known)
    asyncio.run(produce(f"localhost:{inside}", "t", b"1", **known))
    assert asyncio.run(consume(f"localhost:{outside}", "t", 1, group_id="g", **known)) == [b"1"]
    for port in (inside, outside):
        refused(f"localhost:{port}", {})
        refused(f"localhost:{port}", {**known, "sasl_plain_password": "guessed"})
        refuses_the_untrusting(port)
    assert known["sasl_plain_password"] not in (tmp_path / "log").read_text()


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
