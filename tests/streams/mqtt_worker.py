"""A run over MQTT as a process of its own: FOLDER ADDRESS SAMPLES [KILL]. It ends itself by SIGKILL when KILL messages are on disk and
before the last of them are acknowledged."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import streams
from streams.mqtt_client import Link, Token
from twin_engine.loader import load
from twin_engine.records import Update
from twin_engine.run import Run


def run(folder: Path, uri: str, samples: int) -> None:
    """Run the twin of a table until so many samples have been taken."""
    twin = load("generic")
    source = streams.open_source(uri, twin=twin, folder=folder)
    sink = streams.open_sink(f"jsonl:{folder}/events.jsonl")

    def look(_: Update) -> None:
        if one.engine.telemetry.hops >= samples - 2:
            one.stop()

    one = Run(twin, source, [sink], assets=["a"], state_dir=folder, snapshot_every=0.05, on_update=look)
    one()


def main() -> None:
    folder, uri, samples, *kill = sys.argv[1:]
    if kill:
        logged, acknowledge = 0, Link.acknowledge

        def die(self: Link, tokens: list[Token]) -> None:
            nonlocal logged
            logged += len(tokens)
            if logged >= int(kill[0]):
                os.kill(os.getpid(), signal.SIGKILL)
            acknowledge(self, tokens)

        Link.acknowledge = die
    run(Path(folder), uri, int(samples))


if __name__ == "__main__":
    main()
