"""``python -m compose.services start|stop [NAME...]``: what ``make services`` and ``make services-stop`` do."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from compose.services import KINDS, Missing, Server, start
from compose.services.programs import locked

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".services"
ENVIRONMENT = ROOT / ".services.env"


def main() -> int:
    """Return 0, or 1 when a server that was asked for is missing."""
    parser = argparse.ArgumentParser(prog="python -m compose.services", description="Kafka, Mosquitto and InfluxDB on loopback ports.")
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(KINDS)}; all when none is given")
    given = parser.parse_args()
    for name in given.names:
        if name not in KINDS:
            parser.error(f"expected a name of {', '.join(KINDS)}, found {name!r}")
    STATE.mkdir(mode=0o700, exist_ok=True)
    with locked(STATE / "lock"):
        missing = [name for name in given.names or KINDS if not (_start if given.action == "start" else _stop)(name)]
        running = [server for name in KINDS if (server := Server.load(STATE / name)) and server.alive]
        _write(running)
    if not running:
        shutil.rmtree(STATE)
    return 1 if missing else 0


def _start(name: str) -> bool:
    try:
        server = _again(name) or start(name, STATE / name)
    except Missing as reason:
        sys.stdout.write(f"{name}: missing. {reason}\n")
        return False
    sys.stdout.write(f"{name}: {server}\n")
    return True


def _again(name: str) -> Server | None:
    """Return the server that runs, or ran, with the ports and data it had; None where there is none, or it does not start any more."""
    server = Server.load(STATE / name)
    if server is None or server.alive:
        return server
    try:
        return server.run()
    except Missing:
        return None


def _stop(name: str) -> bool:
    if server := Server.load(STATE / name):
        server.close()
        sys.stdout.write(f"{name}: stopped, its data removed\n")
    return True


def _write(running: list[Server]) -> None:
    """Write the variables of what runs, readable by this user only."""
    lines = [f"{name}={value}\n" for server in running for name, value in server.env.items()]
    ENVIRONMENT.unlink(missing_ok=True)
    if lines:
        ENVIRONMENT.touch(0o600)
        ENVIRONMENT.write_text("".join(lines))
        sys.stdout.write(f"written: {ENVIRONMENT.name}\n")


if __name__ == "__main__":
    sys.exit(main())
