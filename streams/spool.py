"""A sink that may fail, behind a spool on disk: nothing is lost, the order is kept, and a full spool holds the source back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from streams.spool_file import SpoolFile
from streams.update_codec import decode_update, encode_update
from twin_engine.clock import NS, Clock, WallClock
from twin_engine.errors import SinkError
from twin_engine.records import Position, Sink, Update, Watcher

_BATCH = 256  # updates delivered from the spool between flushes of the sink


class Spool:
    """Wraps a sink.

    While the sink works, updates go straight to it, and those since its last flush are remembered. When it raises SinkError they go to a
    file in ``directory``, and so does all that follows; at each flush, once ``retry`` seconds have passed, the sink is opened again at its
    last good position and given what is in the file. When the file holds ``cap`` bytes, ``write`` waits for the sink, which keeps the
    source from being read; after ``patience`` seconds it raises SinkError.

    show: outputs that are kept besides events. A file is deleted two flushes after it was delivered: until then a snapshot may refer to it.
    """

    def __init__(
        self,
        sink: Sink,
        directory: Path,
        *,
        show: tuple[str, ...] = (),
        cap: int = 1 << 30,
        retry: float = 1.0,
        patience: float = math.inf,
        clock: Clock | None = None,
    ) -> None:
        self._sink, self._directory, self._show = sink, directory, show
        self._cap, self._retry, self._patience, self._clock = cap, retry, patience, clock or WallClock()
        self._inner: Position = None  # the sink's, after its last good flush
        self._since: list[bytes] = []  # what it was given after that
        self._file: SpoolFile | None = None  # open while the sink is down
        self._tried = 0
        self._delivered: list[tuple[int, SpoolFile]] = []  # flushes until then, and a file that was delivered
        self._flushes = 0

    @property
    def down(self) -> bool:
        """Whether updates go to the file."""
        return self._file is not None

    def open(self, position: Position) -> None:
        """Go on from a position, the sink down or not; at the very beginning (None) a sink that cannot be opened raises SinkError."""
        self._since, self._file, self._delivered = [], None, []
        self._inner, held = (position["inner"], position["held"]) if position else (None, None)
        SpoolFile.clear(self._directory, keep=held[0] if held else None)
        if held:
            self._file = SpoolFile.reopen(self._directory, *held)
            try:
                self._recover()
            except SinkError:
                self.close()
                raise
            return
        try:
            self._sink.open(self._inner)
        except SinkError:
            if position is None:
                raise
            self._go_down()

    def write(self, update: Update) -> None:
        """Take an update."""
        data = encode_update(update, self._show)
        self._wait_for_room(len(data))
        if self._file is None:
            try:
                self._sink.write(update)
            except SinkError:
                self._go_down()
        if self._file is None:
            self._since.append(data)
        else:
            self._file.append(data)

    def _wait_for_room(self, size: int) -> None:
        """Wait until the sink is back, while the file is full."""
        waited = 0.0
        while self._file is not None and self._file.end + size > self._cap:
            if waited >= self._patience:
                raise SinkError(
                    str(self._directory),
                    expected=f"the sink to be back before {self._cap} bytes are spooled",
                    found=f"it down for {waited:g} s more",
                    mend="Bring it back and run again: nothing is lost.",
                )
            self._clock.sleep(self._retry)
            waited += self._retry
            self._recover()

    def _go_down(self) -> None:
        """Begin a file with what the sink may have lost."""
        with suppress(SinkError, OSError):
            self._sink.close()
        self._file, self._tried = SpoolFile.create(self._directory), self._clock.now()
        for data in self._since:
            self._file.append(data)
        self._since = []

    def _recover(self) -> None:
        """Open the sink at its last good position and give it what is in the file; raises SinkError where the file is damaged."""
        if self._file is None:
            return
        self._tried = self._clock.now()
        try:
            self._sink.open(self._inner)
        except SinkError:
            return
        while batch := self._file.read(_BATCH):
            try:
                for data in batch.records:
                    self._sink.write(decode_update(data))
                self._inner = self._sink.flush()
            except SinkError:
                with suppress(SinkError, OSError):
                    self._sink.close()
                return
            self._file.begin = batch.end
        self._file.close()
        self._delivered.append((self._flushes, self._file))
        self._file = None

    def flush(self) -> Position:
        """Flush the sink, or the file while the sink is down; return the position after either."""
        if self._file is not None and self._clock.now() - self._tried >= self._retry * NS:
            self._recover()
        if self._file is None:
            try:
                self._inner = self._sink.flush()
                self._since = []
            except SinkError:
                self._go_down()
        self._flushes += 1
        for flushes, file in self._delivered:
            if self._flushes - flushes > 2:
                file.delete()
        self._delivered = [(flushes, file) for flushes, file in self._delivered if self._flushes - flushes <= 2]
        if self._file is None:
            return {"inner": self._inner, "held": None}
        self._file.sync()
        return {"inner": self._inner, "held": [self._file.generation, self._file.begin, self._file.end]}

    def watch(self, health: Callable[[], Mapping[str, float]]) -> None:
        """Pass the engine's figures on to a sink that keeps them."""
        if isinstance(self._sink, Watcher):
            self._sink.watch(health)

    def close(self) -> None:
        """Flush and close both."""
        if self._file is None:
            self._sink.close()
            return
        file, self._file = self._file, None
        file.sync()
        file.close()
