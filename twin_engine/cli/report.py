"""What commands print."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from twin_engine.errors import InputError, SinkError

if TYPE_CHECKING:
    from twin_engine.run import RunReport
    from twin_engine.twin import Twin


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without lines; where nobody watches, each row is one line, for other tools to cut."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 1000).print(shown, markup=False)


def summary(report: RunReport) -> str:
    """Return one line on a finished run."""
    ends = {"end": "end of input", "time": "time is up", "signal": "stopped"}
    begun = "went on from a snapshot, " if report.resumed else ""
    text = f"{begun}{ends[report.ended]}: {report.samples} samples, {report.hops} hops, {report.events} events in {report.seconds:.1f} s"
    for name, counts in (("dropped", report.dropped), ("rejected", report.rejects)):
        if counts:
            text += f"; {name}: " + ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items()))
    if not report.samples:
        text += "; no sample was used: " + ("see what was dropped" if report.dropped or report.rejects else "the source gave none")
    for uri, size in report.spooled.items():
        text += f"; {uri} is down, {size} bytes are kept for it: bring it back and run again"
    return text + (f"; begun anew: {', '.join(report.fresh)}" if report.resumed and report.fresh else "")


def exit_code(report: RunReport) -> int:
    """Return 6 where a sink was down at the end, 4 where no sample at all was used before the end or the time was up, else 0."""
    if report.spooled:
        return SinkError.exit_code
    return InputError.exit_code if not report.samples and report.ended != "signal" else 0


def explain(twin: Twin) -> None:
    """Print a twin's streams and stages, or all that is wrong with it: the last of that is raised, a DefinitionError."""
    from twin_engine.check import report
    from twin_engine.clock import hertz
    from twin_engine.graph import examine

    _, wrong = examine(twin)
    for error in wrong[:-1]:
        print(f"twin-engine: {error}", file=sys.stderr)
    if wrong:
        raise wrong[-1]
    stages = report(twin)
    print(f"twin {twin.name}: right. hop {float(twin.hop_s):g} s, definition {twin.digest()}")
    streams = [
        (
            s.name,
            f"{float(hertz(s.rate)):g} Hz",
            ", ".join(f"{c.name} [{c.unit}]" for c in s.channels[:6]) + (" ..." if len(s.channels) > 6 else ""),
        )
        for s in twin.streams
    ]
    table(("stream", "rate", "channels"), streams)
    rows = [
        (s.name, s.kind, ", ".join(s.inputs), ", ".join(s.outputs), f"{s.lag:g} s", f"{s.valid_after:g} s", f"{s.state_bytes}")
        for s in stages
    ]
    table(("stage", "kind", "reads", "gives", "lag", "valid after", "bytes an asset"), rows)
    print(f"state: {sum(s.state_bytes for s in stages)} bytes an asset")
    print(f"shown on screens and kept by sinks, with the events: {', '.join(twin.show) or 'nothing; name outputs: show=(...)'}")
