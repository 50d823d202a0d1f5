"""Run every speed benchmark against its peer, one after the other, and print the ratios. ``python -m bench [NAME ...]``."""

from __future__ import annotations

import json
import subprocess
import sys

from bench.record import RESULTS

SPEED = ("cli_start", "biquads", "qspeed", "river")


def main() -> int:
    failed = [name for name in sys.argv[1:] or SPEED if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode]
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    print(f"\n{'benchmark':32} {'ours':>12} {'peer':>12} {'ratio':>8}  unit")
    for r in results:
        print(f"{r['name']:32} {r['ours']:12.4g} {r['peer']:12.4g} {r['ratio']:8.3g}  {r['unit']}")
    for name in failed:
        print(f"failed: {name}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
