"""Where a server's program comes from: a path, a container image, or a cache that is filled once."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp


class Missing(Exception):  # noqa: N818 - it is the server that is missing
    """A server cannot be had here; the text says why."""


@dataclass(frozen=True)
class Program:
    """What to run before a server's own arguments, and where it came from. With an image, the command is one inside a container."""

    command: list[str]
    source: str
    image: str | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def line(self, arguments: Sequence[str], folder: Path, container: str | None = None) -> list[str]:
        """Return the whole command; a container sees the host's loopback and `folder` under its own path."""
        if self.image is None:
            return [*self.command, *arguments]
        name = ["--name", container] if container else []
        options = ["--rm", "--network", "host", "--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{folder}:{folder}"]
        return ["docker", "run", *name, *options, "--entrypoint", self.command[0], self.image, *self.command[1:], *arguments]


def cache() -> Path:
    """Return the folder that downloads are kept in."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "twin-engine" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def which(name: str) -> str | None:
    """Return a program's path, looking where systems keep their servers too."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"]))


def tool(command: Sequence[str], *, folder: Path | None = None, seconds: float = 300, doing: str) -> str:
    """Run a tool to its end and return what it printed; Missing says what it was for when it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - commands of this package
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise Missing(f"{doing}: no {command[0]} on the PATH") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"{doing}: {command[0]} took longer than {seconds:.0f} s") from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["nothing"]
        raise Missing(f"{doing}: {command[0]} failed: {' '.join(said[-3:])[:400]}") from None
    return done.stdout


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file's lock against other processes."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached(name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the cache; `fill` is given an empty one the first time, and what it leaves appears whole or not at all."""
    target = cache() / name
    with locked(cache() / "lock"):
        if not target.exists():
            draft = Path(mkdtemp(prefix=f"{name}-", dir=cache()))
            try:
                fill(draft)
                draft.rename(target)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return target


@functools.cache
def daemon() -> str:
    """Return the version of the container daemon, or raise Missing."""
    return tool(["docker", "info", "--format", "{{.ServerVersion}}"], seconds=20, doing="Docker").strip()


def docker(command: list[str], image: str) -> Program:
    """Return a program in a container, its image pulled; Missing where no daemon answers."""
    daemon()
    try:
        tool(["docker", "image", "inspect", image], seconds=20, doing="Docker")
    except Missing:
        tool(["docker", "pull", "--quiet", image], seconds=300, doing=f"Docker image {image}")
    return Program(command, f"Docker image {image}", image)
