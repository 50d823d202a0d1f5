"""What is installed on this machine and what can be reached from it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from twin_engine.cli.report import table

CORE = ("numpy", "scipy", "numba", "msgspec", "pyarrow", "safetensors", "pint", "typer", "rich", "psutil", "matplotlib")
EXTRAS = {
    "gw": ("h5py", "gwpy"), "neural": ("torch", "river"), "mqtt": ("paho-mqtt",), "kafka": ("faust-streaming", "aiokafka"),
    "influx": ("influxdb-client",),
}  # fmt: skip
SERVERS = (
    ("MQTT broker", "TWIN_ENGINE_MQTT", "127.0.0.1:1883"), ("Kafka broker", "TWIN_ENGINE_KAFKA", "127.0.0.1:9092"),
    ("InfluxDB", "TWIN_ENGINE_INFLUX", "127.0.0.1:8086"), ("Grafana", "TWIN_ENGINE_GRAFANA", "127.0.0.1:3000"),
)  # fmt: skip
LITTLE_DISK = 1 << 30


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
    yield "twin-engine", _installed("twin-engine") or "not installed", "ok"
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
    for name in CORE:
        found = _installed(name)
        yield name, found or "not installed", "ok" if found else "wrong: install twin-engine again"
    for extra, names in EXTRAS.items():
        for name in names:
            found = _installed(name)
            yield f"{name} [{extra}]", found or "not installed", "ok" if found else f"optional: install 'twin-engine[{extra}]'"


def _servers() -> Iterator[tuple[str, str, str]]:
    for what, variable, default in SERVERS:
        address = os.environ.get(variable, default)
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=0.5).close()
            yield what, address, "ok"
        except (OSError, ValueError) as error:
            verdict = f"unreachable: {error}" if variable in os.environ else f"optional: none there; set {variable}=HOST:PORT"
            yield what, address, verdict
