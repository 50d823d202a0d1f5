"""The command line: what it imports, what it prints, how it ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from twin_engine.cli import main

HEAVY = "{'numpy', 'scipy', 'numba', 'pyarrow', 'torch', 'faust', 'matplotlib', 'pint', 'pandas'}"


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["twin-engine", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("module", ["twin_engine", "twin_engine.cli"])
def test_imports_are_light(module: str) -> None:
    program = f"import sys, {module}; print(*({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("run", "detect", "demo", "twins", "check", "new", "doctor"))


def test_doctor_finds_this_environment_sound(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "doctor") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:1] == ["numba"] and line.split()[-1] == "ok" for line in lines)


def test_twins_lists_the_catalogue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "twins") == 0
    told = capsys.readouterr().out
    assert all(name in told for name in ("interferometer", "host", "generic"))


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["run", "interferometer"], 2, "Missing option"),
        (["frobnicate"], 2, "No such command"),
        (["check", "interferometr"], 3, "Did you mean 'interferometer'?"),
        (["run", "interferometer", "--from", "smi:", "--to", "jsonl:x.jsonl"], 4, "Did you mean 'sim'?"),
        (["run", "interferometer", "--from", "sim:", "--to", "jsnl:x"], 6, "Did you mean 'jsonl'?"),
        (["run", "interferometer", "--from", "sim:", "--to", "jsonl:x", "--speed", "fast"], 4, "--speed"),
        (["detect", "nothing.csv", "--time", "t", "--value", "v", "--to", "out.csv"], 4, "nothing there"),
    ],
)
def test_errors_tell_the_mend_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *words) == code
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("missing", "words", "extras"),
    [
        ("aiokafka", ["worker", "x.toml"], "kafka,service"),
        ("structlog", ["sink", "x.toml", "influx"], "kafka,service"),
        ("amqtt", ["demo"], "mqtt"),
        ("paho", ["run", "host", "--from", "mqtt://h/{asset}", "--asset", "a", "--to", "terminal:"], "mqtt"),
    ],
)
def test_a_missing_extra_is_named(tmp_path: Path, missing: str, words: list[str], extras: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {words!r}; from twin_engine.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 4, done.stderr
    assert f"Install twin-engine[{extras}]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_uses_no_sample_says_why_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text('{"channel": "elsewhere", "ts": "2020-01-01T00:00:00Z", "value": 1}\n')
    assert call(monkeypatch, "run", "host", "--from", "lines:in.jsonl", "--asset", "h", "--to", "jsonl:e.jsonl") == 4
    told = capsys.readouterr().err
    assert "no sample was used" in told
    assert "unknown_channel 1" in told


def test_a_folder_that_is_not_there_is_told_and_not_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", "host", "--from", "sim:?duration=10", "--to", "jsonl:typo/x.jsonl", "--state", "state") == 6
    assert "mkdir -p" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_slip_in_a_definition_is_told_by_file_and_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for text, line, found in (("from twin_engine import Twin\n\ntwin = Twn()\n", 3, "Twn"), ("x = 1\ntwin = (\n", 2, "SyntaxError")):
        (tmp_path / "slip.py").write_text(text)
        assert call(monkeypatch, "check", "slip.py") == 3
        told = capsys.readouterr().err
        assert f"slip.py, line {line}" in told
        assert found in told


def test_new_takes_no_name_of_an_installed_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "new", "numpy") != 0
    assert "numpy" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_check_tells_every_mistake_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "room.py").write_text(
        "from twin_engine import Channel, Stream, Twin\n"
        "from twin_engine.detect import Alarm, Level\n"
        "twin = Twin('room', '1 s', [Stream('s', 1, [Channel('t', unit='degC'), Channel('u', unit='degrees of heat')]),\n"
        "                            Stream('r', 1, [Channel('t', unit='degC')])],\n"
        "            {'level': Level('r', memory='1 parsec'), 'alarm': Alarm('r'), 'other': Alarm('levle')})\n"
    )
    assert call(monkeypatch, "check", "room.py") == 3
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 4
    for words in ("channel 'u'", "parsec", "unit like '1'", "Did you mean 'level'?"):
        assert sum(words in line for line in told) == 1


def test_doctor_shows_every_extra_and_the_servers_that_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("MQTT_URL", "KAFKA_BOOTSTRAP", "INFLUX_URL", "GRAFANA_URL"):
        monkeypatch.delenv(variable, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as here, socket.create_server(("127.0.0.1", 0)) as gone:
        port, closed = here.getsockname()[1], gone.getsockname()[1]
        gone.close()
        (tmp_path / ".services.env").write_text(f"MQTT_URL=mqtt://user:secret@127.0.0.1:{port}\nINFLUX_URL=http://127.0.0.1:{closed}\n")
        monkeypatch.setenv("KAFKA_BOOTSTRAP", f"127.0.0.1:{closed},127.0.0.1:{port}")
        assert call(monkeypatch, "doctor") == 0
    told = capsys.readouterr().out
    lines = [line.split() for line in told.splitlines()]
    assert "secret" not in told
    assert ["MQTT", "broker", f"127.0.0.1:{port}", "ok"] in lines
    assert ["Kafka", "broker", f"127.0.0.1:{port}", "ok"] in lines
    assert any(line[:2] == ["InfluxDB", f"127.0.0.1:{closed}"] and line[2] == "unreachable:" for line in lines)
    for name, extra in (("paho-mqtt", "mqtt"), ("aiokafka", "kafka"), ("influxdb-client", "influx"), ("duckdb", "history"),
                        ("structlog", "service"), ("fastapi", "web"), ("gwpy", "gw"), ("torch", "neural")):  # fmt: skip
        assert f"{name} [{extra}]" in told
