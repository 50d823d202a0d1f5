"""What is installed on this machine and what can be reached from it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twin_engine.cli.report import table

PACKAGE = "twin-engine"
SERVERS = (
    ("MQTT broker", "MQTT_URL", "mqtt://127.0.0.1:1883"), ("Kafka broker", "KAFKA_BOOTSTRAP", "127.0.0.1:9092"),
    ("InfluxDB", "INFLUX_URL", "http://127.0.0.1:8086"), ("Grafana", "GRAFANA_URL", "http://127.0.0.1:3000"),
)  # fmt: skip
PORTS = {"mqtt": 1883, "mqtts": 8883, "http": 80, "https": 443, "": 9092}
SERVICES = Path(".services.env")  # as `make services` writes it: NAME=VALUE lines
PATIENCE = 0.3  # seconds for a server to answer
LITTLE_DISK = 1 << 30
_NEED = re.compile(r"""(?P<name>[\w.-]+)[^;]*(?:;.*\bextra\s*==\s*["'](?P<extra>[\w-]+)["'])?""")


def examine() -> bool:
    """Print the findings and return whether all that the core needs is there."""
    rows = [*_machine(), *_packages(), *_servers()]
    table(("what", "found", "verdict"), rows)
    return not any(verdict.startswith("wrong") for _, _, verdict in rows)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _machine() -> Iterator[tuple[str, str, str]]:
    yield PACKAGE, _installed(PACKAGE) or "not installed", "ok"
    yield "python", platform.python_version(), "ok" if sys.version_info >= (3, 11) else "wrong: expected 3.11 or newer"
    yield "machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", "ok"
    free = shutil.disk_usage(Path.cwd()).free
    yield "free disk here", f"{free / 1e9:.1f} GB", "ok" if free > LITTLE_DISK else "wrong: expected more than 1 GB"
    cache = Path(os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    while not cache.exists():
        cache = cache.parent
    writable = os.access(cache, os.W_OK)
    yield "kernel cache", str(cache), "ok" if writable else "wrong: expected a writable folder; set NUMBA_CACHE_DIR"
    yield "GPU", *_gpu()


def _gpu() -> tuple[str, str]:
    if not _installed("torch"):
        return "torch is not installed", "optional"
    torch: Any = import_module("torch")  # an extra: there may be nothing to check types against
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0)), "ok"
    return f"none that torch {torch.__version__} can use", "optional"


def _packages() -> Iterator[tuple[str, str, str]]:
    """Yield what the core and each extra need, as the installed package says."""
    try:
        needs = requires(PACKAGE) or []
    except PackageNotFoundError:
        needs = []
    for need in needs:
        match = _NEED.match(need)
        if match is None or match["extra"] == "all":
            continue
        name, extra = match["name"], match["extra"]
        found = _installed(name)
        missing = f"optional: install '{PACKAGE}[{extra}]'" if extra else f"wrong: install {PACKAGE} again"
        yield f"{name} [{extra}]" if extra else name, found or "not installed", "ok" if found else missing


def _servers() -> Iterator[tuple[str, str, str]]:
    """Yield where each server is said to be, by the environment or else the file of services, and whether it answers there."""
    said = {**_services(), **os.environ}
    for what, variable, default in SERVERS:
        for address in said.get(variable, default).split(","):
            host, port = _place(address.strip())
            place = f"{host}:{port}"
            try:
                socket.create_connection((host, port), timeout=PATIENCE).close()
                yield what, place, "ok"
            except (OSError, OverflowError) as error:
                yield what, place, f"unreachable: {error}" if variable in said else f"optional: none there; set {variable}"


def _services() -> dict[str, str]:
    try:
        lines = SERVICES.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name.strip(): value.strip().strip("'\"") for name, _, value in (line.partition("=") for line in lines)}


def _place(address: str) -> tuple[str, int]:
    """Return host and port of an address (``scheme://user:secret@host:port/path`` or ``host:port``); of a port that is none, 0."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    return parts.hostname or "", PORTS.get(parts.scheme, 0) if port is None else port
