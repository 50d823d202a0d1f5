"""``twin-engine --help`` against a bare Typer program, both started many times in turn: the median of each, and their ratio."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.record import write

BARE = """
import typer
app = typer.Typer()
@app.command()
def one(x: int = 1): ...
@app.command()
def two(x: int = 1): ...
app()
"""
OURS = "from twin_engine.cli import main; main()"


def once(program: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, str(program), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--data", help="not used")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        bare, ours = Path(folder) / "bare.py", Path(folder) / "ours.py"
        bare.write_text(BARE)
        ours.write_text(OURS)
        once(bare), once(ours)  # byte code is written
        pairs = [(once(ours), once(bare)) for _ in range(times)]
    result = write(
        "cli_start", ours=median(a for a, _ in pairs), peer=median(b for _, b in pairs), unit="s", peer_name="bare Typer program"
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
