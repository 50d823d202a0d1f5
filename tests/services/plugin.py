"""Real servers for tests: `kafka`, `mosquitto`, `influx`, each started when the first test asks for it and shared by all workers.

The variables of ``.services.env`` in the environment come first, then that file (``make services`` writes it), then a server that is
started for this run and ended with it. A test whose server cannot be had is skipped with the reason; TWIN_ENGINE_REQUIRE_SERVICES=1 makes
it fail. The end of the output says what was used.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from compose.services import KINDS, Missing, Server, start
from compose.services.programs import locked
from compose.services.server import born
from tests.influx_server import Influx

ROOT = Path(__file__).parents[2]
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")  # brokers that live for seconds are not worth optimising
_RUN = "TWIN_ENGINE_TEST_SERVICES"  # the folder of this run's servers, made by the first process, inherited by its workers


@pytest.fixture(scope="session")
def kafka() -> str:
    """Return the bootstrap address of a broker without automatic topics: make them with `tests.services.topics.create`."""
    return _variables("kafka")["KAFKA_BOOTSTRAP"]


@pytest.fixture(scope="session")
def mosquitto() -> str:
    """Return the URL, with user and password, of a broker that refuses anonymous clients."""
    return _variables("mosquitto")["MQTT_URL"]


@pytest.fixture(scope="session")
def influx() -> Influx:
    """Return a database; take an empty bucket of one's own with `influx.fresh(unique)`."""
    found = _variables("influx")
    return Influx(found["INFLUX_URL"], found["INFLUX_TOKEN"], found["INFLUX_ORG"], found["INFLUX_BUCKET"])


@pytest.fixture
def unique(request: pytest.FixtureRequest) -> str:
    """Return a name that no other test has, good for a topic, a prefix, a group, a bucket."""
    return f"{re.sub(r'[^a-z0-9]+', '-', request.node.name.lower())[:40].strip('-')}-{secrets.token_hex(4)}"


@pytest.fixture
def own_server(tmp_path: Path) -> Callable[..., Server]:
    """Return `start(name, secure=False)`: a server of the test's own, to be stopped, killed and run again; ended with the test."""
    servers: list[Server] = []

    def begin(name: str, *, secure: bool = False) -> Server:
        try:
            servers.append(start(name, tmp_path / f"{name}-{len(servers)}", secure=secure))
        except Missing as reason:
            absent(name, str(reason))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


def _variables(name: str) -> dict[str, str]:
    variables = KINDS[name].variables
    for where, values in (("environment", os.environ), (".services.env", _file(name))):
        if all(variable in values for variable in variables):
            address = values[variables[0]].rpartition("@")[2]
            _note(name, f"{address} ({where})")
            return {variable: values[variable] for variable in variables}
    run = Path(os.environ[_RUN])
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(run / "lock"):
        server = Server.load(run / name)
        if server is None and not (run / f"{name}.missing").exists():
            try:
                server = start(name, run / name)
            except Missing as reason:
                (run / f"{name}.missing").write_text(str(reason))
    if server is None:
        absent(name, (run / f"{name}.missing").read_text())
    _note(name, f"{server} (started for this run)")
    return server.env


def _file(name: str) -> dict[str, str]:
    """Return the variables of .services.env, unless it speaks of a server of ours that has ended."""
    kept = Server.load(ROOT / ".services" / name)
    path = ROOT / ".services.env"
    if (kept and not kept.alive) or not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


def absent(name: str, reason: str) -> NoReturn:
    """Fail or skip for want of a server."""
    _note(name, f"missing: {reason}")
    if os.environ.get("TWIN_ENGINE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"no {name}, and TWIN_ENGINE_REQUIRE_SERVICES=1: {reason}", pytrace=False)
    pytest.skip(f"no {name}: {reason}")


def _note(name: str, text: str) -> None:
    run = Path(os.environ[_RUN])
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    (run / f"{name}.note").write_text(text)


def pytest_configure(config: pytest.Config) -> None:
    """Name the folder of this run's servers, and end the servers of runs that were killed."""
    if hasattr(config, "workerinput"):
        return
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")  # for minutes: half the processor time
    mine = os.getpid()
    every = Path(tempfile.gettempdir()) / f"twin-engine-services-{os.getuid()}"
    every.mkdir(mode=0o700, exist_ok=True)
    for old in every.iterdir():
        pid, _, ticks = old.name.partition("-")
        if pid.isdigit() and born(int(pid)) != int(ticks):
            _end(old)
    os.environ[_RUN] = str(every / f"{mine}-{born(mine)}")


@pytest.hookimpl(tryfirst=True)  # another's may raise, and the servers would stay
def pytest_unconfigure(config: pytest.Config) -> None:
    """End this run's servers."""
    if not hasattr(config, "workerinput"):
        run = Path(os.environ.pop(_RUN))
        _end(run)
        with suppress(OSError):  # another run's servers are beside
            run.parent.rmdir()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers were used, and why one was not."""
    notes = sorted(Path(os.environ[_RUN]).glob("*.note"))
    if notes:
        terminalreporter.section("servers")
    for note in notes:
        terminalreporter.write_line(f"{note.stem}: {note.read_text()}")


def _end(run: Path) -> None:
    for name in KINDS:
        if server := Server.load(run / name):
            server.close()
    shutil.rmtree(run, ignore_errors=True)
