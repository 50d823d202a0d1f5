"""InfluxDB 2: `$INFLUXD`, a container, the PATH, or the build that is kept beside the repository."""

from __future__ import annotations

import json
import lzma
import os
import secrets
import shutil
import urllib.request
from pathlib import Path

from compose.services.ports import free_ports
from compose.services.programs import Missing, Program, cached, docker, which
from compose.services.server import Server

IMAGE = "influxdb:2.7.12"
BESIDE = Path(__file__).parents[2] / ".." / "shared" / "services"


def _named() -> Program:
    if path := os.environ.get("INFLUXD"):
        return Program([path], "InfluxDB ($INFLUXD)")
    raise Missing("INFLUXD is not set")


def _container() -> Program:
    return docker(["influxd"], IMAGE)


def _installed() -> Program:
    if path := which("influxd"):
        return Program([path], f"InfluxDB ({path})")
    raise Missing("no influxd on the PATH")


def _beside() -> Program:
    archives = sorted(BESIDE.glob("influxd-*.xz"))
    if not archives:
        raise Missing("no ../shared/services/influxd-*.xz")
    archive = archives[-1]

    def unpack(folder: Path) -> None:
        with lzma.open(archive) as packed, (folder / "influxd").open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        (folder / "influxd").chmod(0o755)

    return Program([str(cached(archive.stem, unpack) / "influxd")], f"InfluxDB ({archive.name})")


WAYS = (_named, _container, _installed, _beside)


def prepare(program: Program, folder: Path, *, secure: bool) -> Server:
    """Return the server; `secure` changes nothing, a token is needed in any case."""
    del secure
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    env = {"INFLUX_URL": url, "INFLUX_TOKEN": secrets.token_urlsafe(32), "INFLUX_ORG": "twin-engine", "INFLUX_BUCKET": "twins"}
    facts = {"user": "operator", "password": secrets.token_urlsafe(18)}
    paths = ["--bolt-path", f"{folder}/influxd.bolt", "--engine-path", f"{folder}/engine", "--sqlite-path", f"{folder}/influxd.sqlite"]
    arguments = [*paths, "--http-bind-address", url.removeprefix("http://"), "--reporting-disabled", "--log-level", "warn"]
    return Server.of("influx", program, folder, arguments, probe=f"{url}/health", env=env, facts=facts)


def set_up(server: Server) -> None:
    """Make the first user, organisation, bucket and token."""
    env = server.env
    body = {
        "username": server.facts["user"], "password": server.facts["password"],
        "org": env["INFLUX_ORG"], "bucket": env["INFLUX_BUCKET"], "token": env["INFLUX_TOKEN"],
    }  # fmt: skip
    request = urllib.request.Request(f"{env['INFLUX_URL']}/api/v2/setup", json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=120).close()  # noqa: S310 - our own loopback address
    except OSError as error:
        server.close()
        raise Missing(f"{server.source}: the set-up failed: {error}") from None
