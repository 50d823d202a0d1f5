"""One server: a process with its ports, credentials and data in a folder, which any other process can find and end."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from compose.services.ports import listening
from compose.services.programs import Missing, Program
from compose.services.wire import brokers


@dataclass
class Server:
    """A server that has been set up in `folder`; `run` starts it again after `stop` or `kill`, on the same ports and data."""

    name: str
    folder: str
    source: str  # "Kafka 4.3.1 (Maven Central)"
    command: list[str]
    probe: str  # ready when it answers: "kafka:HOST:PORT", "tcp:PORT" or "http://..."
    env: dict[str, str]  # what a client needs to know, by the names of .services.env
    facts: dict[str, str] = field(default_factory=dict)  # user, password, and the files of a secured one
    environment: dict[str, str] = field(default_factory=dict)  # the process's own, on top of ours
    container: str | None = None
    pid: int = 0
    born: int = 0  # start time of the process in clock ticks since boot: with the pid, it is no other process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def of(
        cls, name: str, program: Program, folder: Path, arguments: Sequence[str], *, probe: str, env: dict[str, str], facts: dict[str, str]
    ) -> Self:
        """Return a server that runs a program with these arguments."""
        container = f"twin-engine-{name}-{secrets.token_hex(4)}" if program.image else None
        command = program.line(arguments, folder, container)
        return cls(name, str(folder), program.source, command, probe, env, facts, program.environment, container)

    @classmethod
    def load(cls, folder: Path) -> Server | None:
        """Return the server that was set up in a folder, running or not."""
        try:
            return cls(**json.loads((folder / "server.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def __str__(self) -> str:
        """Name it without a secret in the text."""
        where = self.env.get("KAFKA_BOOTSTRAP") or next(iter(self.env.values())).rpartition("@")[2].removeprefix("http://")
        return f"{self.source}, {where}, pid {self.pid}"

    @property
    def path(self) -> Path:
        """The folder."""
        return Path(self.folder)

    @property
    def alive(self) -> bool:
        """Whether our process runs."""
        return self.pid > 0 and born(self.pid) == self.born

    def run(self, seconds: float = 120) -> Server:
        """Start the process and wait until it answers. Missing, with the end of its log, when it does not within `seconds`."""
        log = self.path / "log"
        log.touch(0o600)
        seen = log.stat().st_size
        program = shutil.which(self.command[0]) or self.command[0]
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        self.pid = os.posix_spawn(program, self.command, {**os.environ, **self.environment}, file_actions=files, setsid=True)
        self.born = born(self.pid)
        self._save()
        end = time.monotonic() + seconds
        while not self._ready():
            if not self.alive or time.monotonic() > end:
                self.kill()
                tail = " ".join(log.read_text(errors="replace")[seen:].split()[-40:])
                raise Missing(f"{self.source} did not start: {tail}")
            time.sleep(0.05)
        return self

    def stop(self, seconds: float = 30) -> None:
        """End the process by SIGTERM, as an operator does; by SIGKILL when it has not ended in `seconds`."""
        if self.alive:
            os.kill(self.pid, signal.SIGTERM)
            self._wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End the process by SIGKILL."""
        if self.alive and self.container:
            subprocess.run(["docker", "kill", self.container], check=False, capture_output=True)  # noqa: S603, S607
            self._wait(10)
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
        self._wait(10)

    def close(self) -> None:
        """End the process and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ready(self) -> bool:
        kind, _, what = self.probe.partition(":")
        with suppress(OSError):
            if kind == "tcp":
                return listening(int(what))
            if kind == "kafka":
                return brokers(what, *(self.facts.get(name, "") for name in ("user", "password", "ca"))) > 0
            urllib.request.urlopen(self.probe, timeout=5).close()  # noqa: S310 - our own loopback address
            return True
        return False

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.alive and time.monotonic() < end:
            time.sleep(0.02)

    def _save(self) -> None:
        path = self.path / "server.json"
        draft = path.with_suffix(".draft")
        draft.touch(0o600)
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(path)


def born(pid: int) -> int:
    """Return a process's start time in clock ticks since boot, 0 for none; a child of ours that has ended is reaped."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])
