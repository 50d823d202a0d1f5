"""Where servers come from: in containers where a daemon answers, and a reason for every way that does not work."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.services import KINDS, Missing, Server, kafka, programs, start
from compose.services.ports import free_ports

# Stands for the docker command: runs what is in the image here, with the container's name in the file of its process.
DOCKER = """\
#!/bin/sh
echo "$*" >> {folder}/calls
case "$1" in
  info) echo 28.2.2 ;;
  image) exit 1 ;;
  pull) ;;
  kill) kill -9 "$(cat {folder}/$2)" ;;
  run)
    while [ "$1" != --entrypoint ]; do
      [ "$1" = --name ] && echo $$ > {folder}/$2
      shift
    done
    program=$2; shift 3
    exec "$program" "$@" ;;
esac
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "docker").write_text(DOCKER.format(folder=tmp_path))
    (tmp_path / "docker").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    programs.daemon.cache_clear()
    yield tmp_path
    programs.daemon.cache_clear()


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_a_server_in_a_container_is_pulled_run_and_ended(docker: Path, end: object) -> None:
    (docker / "served").mkdir()
    program = programs.docker([sys.executable, "-m", "http.server"], "image:1.2.3")
    port = free_ports(1)[0]
    folder = docker / "served"
    server = Server.of("web", program, folder, ["--bind", "127.0.0.1", str(port)], probe=f"tcp:{port}", env={}, facts={}).run()
    assert Server.load(folder) == server
    end(server)
    assert not server.alive
    server.run()
    server.close()
    calls = (docker / "calls").read_text().splitlines()
    assert calls[:3] == ["info --format {{.ServerVersion}}", "image inspect image:1.2.3", "pull --quiet image:1.2.3"]
    runs = [call for call in calls if call.startswith("run")]
    assert len(runs) == 2
    assert f"--volume {folder}:{folder}" in runs[0]
    assert runs[0].endswith(f"--entrypoint {sys.executable} image:1.2.3 -m http.server --bind 127.0.0.1 {port}")
    assert any(call.startswith("kill") for call in calls) == (end is Server.kill)


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_server_says_why_of_each_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KAFKA_HOME", "INFLUXD"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(programs.shutil, "which", lambda *_args, **_options: None)
    monkeypatch.setattr("compose.services.influx.BESIDE", tmp_path)
    programs.daemon.cache_clear()
    with pytest.raises(Missing) as missing:
        start(name, tmp_path / "server")
    assert len(str(missing.value).split("; ")) == len(KINDS[name].ways)
    programs.daemon.cache_clear()


def test_what_does_not_start_gives_the_end_of_its_log(tmp_path: Path) -> None:
    program = programs.Program([sys.executable, "-c", "raise SystemExit('no such disk')"], "Something")
    server = Server.of("some", program, tmp_path, [], probe="tcp:1", env={}, facts={})
    with pytest.raises(Missing, match=r"Something did not start: no such disk"):
        server.run()


def test_a_cache_is_filled_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def broken(folder: Path) -> None:
        (folder / "half").touch()
        raise Missing("the line is down")

    with pytest.raises(Missing):
        programs.cached("thing", broken)
    assert programs.cached("thing", lambda folder: (folder / "whole").touch()).joinpath("whole").exists()
    assert [path.name for path in programs.cache().iterdir() if path.is_dir()] == ["thing"]


def test_no_cluster_id_reads_as_an_option() -> None:
    assert not any(kafka.cluster().startswith("-") for _ in range(1000))
