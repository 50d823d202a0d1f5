"""A sink that may fail, behind a spool on disk: nothing is lost, the order is kept, and a full spool holds the source back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from streams.reading_codec import decode_reading, encode_reading
from streams.spool_file import SpoolFile
from streams.update_codec import decode_update, encode_update
from twin_engine.clock import NS, Clock, WallClock
from twin_engine.errors import SinkError
from twin_engine.records import InputKeeper, Position, Reading, Sink, Update, Watcher

_BATCH = 64 << 20  # bytes delivered from the spool between flushes of the sink
_MOST = 32 << 20  # bytes that are remembered of what the sink was given since its last flush
_UPDATE, _READING = b"u", b"r"  # first byte of a record
log = logging.getLogger("twin_engine.spool")


class Spool:
    """Wraps a sink.

    While the sink works, updates (and readings, where it keeps the input) go straight to it, and those since its last flush are remembered;
    it is flushed early where they are many. When it raises SinkError they go to a file in ``directory``, and so does all that follows; at
    each flush, once ``retry`` seconds have passed, and at close, the sink is opened again at its last good position and given what is in
    the file. When the file holds ``cap`` bytes, ``write`` waits for the sink, which keeps the source from being read; after ``patience``
    seconds it raises SinkError.

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
        self._bytes = 0  # of these
        self._file: SpoolFile | None = None  # open while the sink is down
        self._tried = 0
        self._delivered: list[tuple[int, SpoolFile]] = []  # flushes until then, and a file that was delivered
        self._flushes = 0
        self.left = 0  # bytes that the sink had not taken when this was closed
        self.keeps_input = isinstance(sink, InputKeeper) and sink.keeps_input

    @property
    def down(self) -> bool:
        """Whether updates go to the file."""
        return self._file is not None

    def open(self, position: Position) -> None:
        """Go on from a position, the sink down or not; at the very beginning (None) a sink that cannot be opened raises SinkError."""
        self._since, self._bytes, self._file, self._delivered = [], 0, None, []
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
        except SinkError as error:
            if position is None:
                raise
            self._go_down(error)

    def write(self, update: Update) -> None:
        """Take an update."""
        self._put(_UPDATE + encode_update(update, self._show), lambda: self._sink.write(update))

    def take(self, twin: str, reading: Reading) -> None:
        """Take a reading, for a sink that keeps the input."""
        self._put(_READING + encode_reading(twin, reading), lambda: self._take(twin, reading))

    def _take(self, twin: str, reading: Reading) -> None:
        if isinstance(self._sink, InputKeeper):
            self._sink.take(twin, reading)

    def _put(self, data: bytes, give: Callable[[], None]) -> None:
        """Give the sink what ``data`` stands for, or append it to the file."""
        while True:
            self._wait_for_room(len(data))
            if self._file is not None:
                self._file.append(data)
                return
            try:
                give()
                break
            except SinkError as error:
                self._go_down(error)
        self._since.append(data)
        self._bytes += len(data)
        if self._bytes > _MOST:
            self._flush_sink()

    def _flush_sink(self) -> None:
        try:
            self._inner = self._sink.flush()
            self._since, self._bytes = [], 0
        except SinkError as error:
            self._go_down(error)

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
            if not self._recover():
                self._clock.sleep(self._retry)
                waited += self._retry

    def _go_down(self, error: SinkError) -> None:
        """Begin a file with what the sink may have lost."""
        log.warning("a sink fails; what it misses is kept in %s: %s", self._directory, error)
        with suppress(SinkError, OSError):
            self._sink.close()
        self._file, self._tried = SpoolFile.create(self._directory), self._clock.now()
        for data in self._since:
            self._file.append(data)
        self._since, self._bytes = [], 0

    def _recover(self) -> bool:
        """Open the sink at its last good position, give it what is next in the file, and return whether it took it.

        Raises SinkError where the file is damaged. So much goes before a flush that a sink sees about one flush for each of ours.
        """
        if self._file is None:
            return False
        batch = self._file.read(_BATCH)
        try:
            self._sink.open(self._inner)
            for data in batch.records:
                if data[:1] == _READING:
                    self._take(*decode_reading(data[1:]))
                else:
                    self._sink.write(decode_update(data[1:]))
            self._inner = self._sink.flush()
        except SinkError:
            self._tried = self._clock.now()
            with suppress(SinkError, OSError):
                self._sink.close()
            return False
        self._file.begin = batch.end
        if not self._file.left:
            log.warning("the sink takes again; it has all that was kept in %s", self._directory)
            self._file.close()
            self._delivered.append((self._flushes, self._file))
            self._file = None
        return True

    def flush(self) -> Position:
        """Flush the sink, or the file while the sink is down; return the position after either."""
        if self._file is not None and self._clock.now() - self._tried >= self._retry * NS:
            self._recover()
        if self._file is None:
            self._flush_sink()
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

    def figures(self) -> dict[str, float]:
        """Return whether the sink is down, and the bytes that are kept for it. May be asked by another thread."""
        file = self._file
        return {"sink_down": float(file is not None), "spooled_bytes": float(file.left if file else 0)}

    def close(self) -> None:
        """Flush and close both; what the sink does not take stays in the file."""
        if self._file is None:
            try:
                self._sink.close()
            except SinkError as error:
                self._go_down(error)
        with suppress(SinkError):
            while self._recover():
                pass
        if self._file is None:
            with suppress(SinkError):
                self._sink.close()
            return
        file, self._file = self._file, None
        self.left = file.left
        file.sync()
        file.close()
