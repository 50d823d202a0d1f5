"""A live view in the terminal: assets, rates, latency, last events, sparklines. Where there is no terminal, a line an event."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from typing import Any, TextIO

from streams.shown import shown_blocks
from streams.sparkline import Trace, sparkline
from streams.uri import Uri
from twin_engine.clock import NS, Clock, WallClock, iso
from twin_engine.ports import Block, BlockSpec
from twin_engine.records import Event, Position, Update

_EVENTS = 8  # last events on the screen
_TRACES = 12  # sparklines on the screen
_EACH = 6  # of one output, so that others have room
_REDRAW = 0.2  # seconds of wall clock
_NAMED = 6  # assets that are named; more are counted
_LATE = 600.0  # seconds: a replayed file is not said to be late


def open_terminal(uri: Uri, show: tuple[str, ...]) -> TerminalSink:
    """Open ``terminal:``."""
    uri.only()
    return TerminalSink(show)


class TerminalSink:
    """Draws what it is given; keeps nothing, so it has no position."""

    def __init__(self, show: tuple[str, ...], stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self._show, self._stream, self._clock = show, stream or sys.stdout, clock or WallClock()
        self._live: Any = None
        self._twins: dict[str, _Tally] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._traces: dict[tuple[str, str, str], Trace] = {}
        self._drawn = 0

    def open(self, position: Position) -> None:
        """Take the screen, if there is one."""
        del position
        if self._stream.isatty():
            from rich.console import Console  # noqa: PLC0415  (only for a live view)
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=Console(file=self._stream), auto_refresh=False, transient=False)
            self._live.start()

    def write(self, update: Update) -> None:
        """Take an update; draw if the last drawing is old enough."""
        final = [event for event in update.events if event.final]
        if self._live is None:
            for event in final:
                print(describe(event), file=self._stream, flush=True)
            return
        now = self._clock.now()
        self._twins.setdefault(update.twin, _Tally(now)).take(update)
        self._events.extend(final)
        for key, block in shown_blocks(update, self._show or tuple(name for name in update.outputs if "." not in name)).items():
            spec = update.specs[key]
            if isinstance(spec, BlockSpec):
                self._trace(update, key, block, spec)
        if now - self._drawn >= _REDRAW * NS:
            self._draw()

    def _trace(self, update: Update, key: str, block: Block, spec: BlockSpec) -> None:
        """Add a block to the sparklines of its channels, as far as there is room for them."""
        for i, row in enumerate(block.rows):
            for j, channel in enumerate(spec.channels):
                place = (update.assets[int(row)], key, channel)
                if place not in self._traces:
                    mine = sum(known[:2] == place[:2] for known in self._traces)
                    if len(self._traces) >= _TRACES or mine >= _EACH:
                        break
                    self._traces[place] = Trace(spec.rate)
                self._traces[place].add(int(block.start[i]), block.values[i, j], block.valid[i, j])

    def _draw(self) -> None:
        """Put the screen together."""
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        self._drawn = self._clock.now()
        heads = [Text(tally.line(name, self._drawn), style="bold") for name, tally in self._twins.items()]
        traces = Table.grid(padding=(0, 2))
        for (asset, key, channel), trace in self._traces.items():
            traces.add_row(asset, f"{key.partition('.')[0]} {channel}", Text(sparkline(trace.values), style="cyan"), trace.range())
        events = [Text(describe(event), style=_STYLES.get(event.severity, "")) for event in reversed(self._events)]
        self._live.update(
            Group(*heads, traces, Text(f"last events ({sum(t.events for t in self._twins.values())} in all)"), *events), refresh=True
        )

    def flush(self) -> Position:
        """Draw; there is nothing to keep."""
        if self._live is not None:
            self._draw()

    def close(self) -> None:
        """Draw a last time and give the screen back."""
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None


_STYLES = {"critical": "bold red", "warning": "yellow"}


class _Tally:
    """Counts of one twin since the view began."""

    def __init__(self, now: int) -> None:
        self.begun, self.first, self.until, self.arrival = now, 0, 0, 0
        self.samples = self.events = 0
        self.assets: Sequence[str] = ()

    def take(self, update: Update) -> None:
        """Count an update."""
        self.first = self.first or update.until
        self.until, self.arrival, self.assets = max(self.until, update.until), update.arrival, update.assets
        self.samples += sum(port.values.size for name, port in update.outputs.items() if "." not in name and isinstance(port, Block))
        self.events += sum(event.final for event in update.events)

    def line(self, name: str, now: int) -> str:
        """Return the twin's line."""
        wall = max(1e-3, (now - self.begun) / NS)
        speed = (self.until - self.first) / NS / wall
        late = (now - self.arrival) / NS
        latency = f"  latency {late:.2f} s" if 0 <= late < _LATE else ""
        assets = ", ".join(self.assets) if len(self.assets) <= _NAMED else f"{len(self.assets)} assets"
        return f"{name}  {assets}  {iso(self.until)[:19]}Z  {self.samples / wall:,.0f} samples/s  {speed:.3g}x real time{latency}"


def describe(event: Event) -> str:
    """Return an event as a line of text."""
    parts = [iso(event.peak)[:23] + "Z", event.severity, event.twin, event.asset, event.class_ or event.kind, f"p={event.p_value:.2g}"]
    parts += [f"SNR {event.snr:.1f}"] if event.snr is not None else []
    parts += [f"{event.frequency:.4g} Hz"] if event.frequency is not None else []
    parts += [
        f"{(event.end - event.start) / NS:.3g} s",
        ", ".join(f"{name} {weight:.2f}" for name, weight in list(event.channels.items())[:3]),
    ]
    return "  ".join(parts)
