"""The demo: sensors, broker, twins and screen; and what is left when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from twin_engine.clock import NS, WallClock
from twin_engine.demo import Heard, Sensor, SharedSink, UpToNow, compile_kernels, demo, together
from twin_engine.errors import SinkError
from twin_engine.kernels import cold
from twin_engine.records import Idle, Reading, Update
from twin_engine.testing.fakes import FakeClock, ListSink, ScriptedSource

T0 = 1_700_000_000 * NS
of_amqtt = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@of_amqtt
def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before, connections = set(threading.enumerate()), psutil.Process().net_connections("inet")
    demo(1.0)
    assert "127.0.0.1" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert {thread.name for thread in set(threading.enumerate()) - before} <= {"twin-engine-part_0"}  # of the kernels' pool
    assert set(psutil.Process().net_connections("inet")) <= set(connections)  # other tests' may have been closed meanwhile


@pytest.mark.parametrize(("number", "heard"), [(signal.SIGINT, "interferometer  V1  glitch"), (signal.SIGTERM, "listen to it")])
def test_a_glitch_is_found_through_the_broker_and_the_demo_ends_in_order(tmp_path: Path, number: signal.Signals, heard: str) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "twin_engine.cli", "demo"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while heard not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    assert not error
    assert not list(tmp_path.iterdir())


def processes(monkeypatch: pytest.MonkeyPatch, mark: Path, code: str) -> list[subprocess.Popen[bytes]]:
    """Have kernels compiled by processes that run some code instead; return those that were started."""
    started: list[subprocess.Popen[bytes]] = []

    class Process(subprocess.Popen[bytes]):
        def __init__(self, words: list[str], **options: Any) -> None:
            started.append(self)
            super().__init__([*words[:-1], code], **options)

    monkeypatch.setattr("twin_engine.demo.subprocess.Popen", Process)
    monkeypatch.setattr("twin_engine.demo.compiled_mark", lambda _: mark)
    return started


@pytest.mark.parametrize(("code", "done"), [("pass", True), ("raise SystemExit(1)", False)])
def test_kernels_are_compiled_once(
    code: str, done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = processes(monkeypatch, tmp_path / "mark", code)
    compile_kernels(("a", "b"), WallClock(), threading.Event())
    said = capsys.readouterr().out
    assert "Compiling kernels, once" in said
    assert ("Kernels compiled in" in said) == (tmp_path / "mark").exists() == done
    compile_kernels(("a", "b"), WallClock(), threading.Event())
    assert len(started) == (2 if done else 4)


def test_a_compilation_that_is_no_longer_wanted_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, ended = processes(monkeypatch, tmp_path / "mark", "import threading; threading.Event().wait()"), threading.Event()
    ended.set()
    compile_kernels(("a", "b"), WallClock(), ended)
    assert [process.returncode for process in started] == [-signal.SIGKILL] * 2
    assert not (tmp_path / "mark").exists()


def test_what_one_job_raises_ends_them_all() -> None:
    class Failing:
        def __call__(self) -> None:
            raise SinkError("x", expected="y", found="z")

        def stop(self) -> None:
            pass

    class Waiting:
        def __init__(self) -> None:
            self.asked = threading.Event()

        def __call__(self) -> None:
            assert self.asked.wait(60)

        def stop(self) -> None:
            self.asked.set()

    with pytest.raises(SinkError, match="expected y"):
        together([Waiting(), Failing()], threading.Event())


def test_a_sensor_waits_until_somebody_listens() -> None:
    said: list[str] = []

    class Publisher:
        def open(self) -> None:
            said.append("open")

        def publish(self, topic: str, raw: bytes) -> None:
            said.append(f"{topic} {raw.decode()}")

        def close(self) -> None:
            said.append("close")

    class Codec:
        def encode(self, reading: Reading) -> list[tuple[str, bytes]]:
            return [(reading.asset, b"raw")]

    heard = Heard(ScriptedSource([Idle()]))
    sensor = Sensor(ScriptedSource([Idle(), Reading("a", ("x",), np.array([T0]), np.zeros((1, 1)))]), Codec(), Publisher(), heard.ready)
    thread = threading.Thread(target=sensor)
    thread.start()
    assert not said
    list(heard.items(None))
    thread.join()
    assert said == ["open", "a raw", "close"]


def test_the_past_comes_at_once_and_the_future_when_it_is_due() -> None:
    clock = FakeClock(T0)
    items = [Reading("a", ("x",), np.array([T0 + k * NS]), np.zeros((1, 1))) for k in (-2, -1, 0, 1)]
    source = UpToNow(ScriptedSource(items), clock)
    given = [(item, clock.time) for item in source.items(None)]
    readings = [(int(item.times[0]), at) for item, at in given if isinstance(item, Reading)]
    assert [at for _, at in readings[:3]] == [T0] * 3
    assert readings[3][1] >= T0 + NS
    idle = [item for item, _ in given if isinstance(item, Idle)]
    assert idle
    assert all(item.position == 3 for item in idle)


def test_a_shared_sink_is_opened_once_and_closed_by_the_last() -> None:
    sink = ListSink()
    shared = SharedSink(sink)
    first, second = shared.end(), shared.end()
    for end in (first, second):
        end.open(None)
        end.write(Update("t", ["a"], {}, {}))
    first.close()
    second.write(Update("t", ["a"], {}, {}))
    second.close()
    assert len(sink.updates) == 3
    assert [word for word in sink.log if word in {"open", "close"}] == ["open", "close"]


def test_another_installation_compiles_its_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    here = cold.compiled_mark("demo")
    monkeypatch.setattr(cold, "__file__", "/elsewhere/twin_engine/kernels/cold.py")
    assert cold.compiled_mark("demo") != here
    assert cold.compiled_mark("demo").parent == here.parent
