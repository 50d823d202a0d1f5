"""A real InfluxDB for tests: the one that INFLUX_URL names, else an ``influxd`` started for them."""

from __future__ import annotations

import csv
import io
import json
import lzma
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_ARCHIVE = "influxd-2.7.12-linux-amd64.xz"
_SHARED = Path(__file__).parents[1] / ".." / "shared" / "services"


@dataclass
class Influx:
    """Where the server is, and what it lets us do."""

    url: str
    token: str
    org: str
    bucket: str

    def request(self, path: str, body: Any = None, *, kind: str = "application/json", method: str = "POST") -> str:
        """Return what the server says."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Authorization": f"Token {self.token}", "Content-Type": kind}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method), timeout=60) as answer:  # noqa: S310
            return answer.read().decode()

    def query(self, flux: str) -> list[dict[str, str]]:
        """Return the rows of a Flux query."""
        text = self.request(f"/api/v2/query?org={self.org}", flux.encode(), kind="application/vnd.flux")
        rows: list[dict[str, str]] = []
        for table in text.replace("\r\n", "\n").strip("\n").split("\n\n"):
            rows += list(csv.DictReader(io.StringIO(table)))
        return rows

    def fresh(self, name: str) -> Influx:
        """Return an empty bucket of that name."""
        organisation = json.loads(self.request(f"/api/v2/orgs?org={self.org}", method="GET"))["orgs"][0]["id"]
        for old in json.loads(self.request(f"/api/v2/buckets?name={name}", method="GET"))["buckets"]:
            self.request(f"/api/v2/buckets/{old['id']}", method="DELETE")
        self.request("/api/v2/buckets", {"orgID": organisation, "name": name, "retentionRules": []})
        return Influx(self.url, self.token, self.org, name)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def influx_server(folder: Path) -> Iterator[Influx]:
    """Yield a server; skips the test, with the reason, where there is none."""
    if url := os.environ.get("INFLUX_URL"):
        yield Influx(url, os.environ["INFLUX_TOKEN"], os.environ["INFLUX_ORG"], os.environ["INFLUX_BUCKET"])
        return
    binary = os.environ.get("INFLUXD") or shutil.which("influxd")
    if binary is None:
        archive = _SHARED / _ARCHIVE
        if not archive.exists():
            pytest.skip("no InfluxDB: set INFLUX_URL or INFLUXD, or put influxd on the PATH")
        binary = str(folder / "influxd")
        with lzma.open(archive) as packed, Path(binary).open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        Path(binary).chmod(0o755)
    with started(binary, folder, free_port()) as process:
        del process
        yield _set_up(folder)


@contextmanager
def started(binary: str, folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run influxd on a port with its data in a folder, until the end of the block."""
    arguments = ["--bolt-path", f"{folder}/i.bolt", "--engine-path", f"{folder}/e", "--sqlite-path", f"{folder}/i.sqlite"]
    with subprocess.Popen(
        [binary, *arguments, "--http-bind-address", f"127.0.0.1:{port}", "--reporting-disabled", "--log-level", "error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        (folder / "port").write_text(str(port))
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    assert time.monotonic() < end, "influxd did not start"
                    assert process.poll() is None, "influxd ended"
                    time.sleep(0.05)
            yield process
        finally:
            process.terminate()


def _set_up(folder: Path) -> Influx:
    server = Influx(f"http://127.0.0.1:{(folder / 'port').read_text()}", "test-token", "test", "test")
    user = {"username": "test", "password": "test-password", "org": server.org, "bucket": server.bucket, "token": server.token}
    server.request("/api/v2/setup", user)
    return server
