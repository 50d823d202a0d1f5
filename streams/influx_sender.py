"""Lines on their way to the database: a thread sends them in small batches, so that the engine never waits for the network."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from streams.influx_http import RefusedError
from streams.influx_lines import LINES, Batch
from twin_engine.errors import SinkError

LINGER = 0.02  # seconds that a batch waits for more lines
ROOM = 32 << 20  # bytes waiting, beyond which whoever brings more waits too


class Target(Protocol):
    """Where lines are written."""

    def post(self, data: bytes) -> None:
        """Write lines; raises RefusedError or SinkError."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Sender:
    """Sends batches in the order they came, at most ``LINES`` lines at once.

    refused: called in the thread with each line that the server will never take, and the reason; the others of its batch are written. Any
    other failure ends the thread: what was waiting is dropped, and ``put`` and ``flush`` raise the SinkError.
    """

    def __init__(self, target: Target, refused: Callable[[bytes, str], None], *, linger: float = LINGER) -> None:
        self._target, self._refused, self._linger = target, refused, linger
        self._waiting: deque[Batch] = deque()
        self._lines = self._bytes = 0  # waiting
        self._sending = self._hurry = self._closed = False
        self._error: SinkError | None = None
        self._state = threading.Condition()
        self.sent = 0  # lines that the server has taken
        self._thread = threading.Thread(target=self._work, name="influx", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Take a batch; waits for room. Raises SinkError."""
        with self._state:
            self._state.wait_for(lambda: self._bytes < ROOM or self._error or self._closed)
            self._check()
            self._waiting.append(batch)
            self._lines += batch.lines
            self._bytes += len(batch.data)
            self._state.notify_all()

    def flush(self) -> None:
        """Wait until the server has taken all; raises SinkError."""
        with self._state:
            self._hurry = True
            self._state.notify_all()
            self._state.wait_for(lambda: self._error or (not self._waiting and not self._sending))
            self._hurry = False
            self._check()

    def _check(self) -> None:
        if self._error:
            raise self._error

    def close(self) -> None:
        """End the thread; what is waiting is dropped."""
        with self._state:
            self._closed = True
            self._waiting.clear()
            self._state.notify_all()
        self._thread.join()
        self._target.close()

    def _work(self) -> None:
        while data := self._next():
            error: SinkError | None = None
            try:
                self._deliver(data)
            except SinkError as failure:
                error = failure
            except Exception as failure:  # noqa: BLE001 - whoever flushes must hear of it
                error = SinkError("influx", expected="lines to be sent", found=repr(failure), mend="This is a bug: please report it.")
            with self._state:
                self._sending, self._error = False, error
                if error:
                    self._waiting.clear()
                self._state.notify_all()
            if error:
                return

    def _next(self) -> bytes:
        """Return the next lines to send, after a short wait for more; nothing when closed."""
        with self._state:
            self._state.wait_for(lambda: self._waiting or self._closed)
            end = time.monotonic() + self._linger
            while not (self._closed or self._hurry or self._lines >= LINES) and (left := end - time.monotonic()) > 0:
                self._state.wait(left)
            if self._closed:
                return b""
            taken: list[bytes] = []
            lines = 0
            while self._waiting and (not taken or lines + self._waiting[0].lines <= LINES):
                batch = self._waiting.popleft()
                taken.append(batch.data)
                lines += batch.lines
            self._lines -= lines
            self._sending = True
            data = b"".join(taken)
            self._bytes -= len(data)
            self._state.notify_all()
            return data

    def _deliver(self, data: bytes) -> None:
        """Write lines, in order; where some are refused, find them (by what the server says, else by halves) and write the others."""
        parts = deque([data])
        while parts:
            part = parts.popleft()
            try:
                self._target.post(part)
                self.sent += part.count(b"\n")
            except RefusedError as error:
                parts.extendleft(reversed(self._sorted_out(part.splitlines(keepends=True), error)))

    def _sorted_out(self, lines: list[bytes], error: RefusedError) -> list[bytes]:
        """Take out the lines that are known to be refused, and return what is to be tried again, in parts."""
        bare = [line[:-1] for line in lines]
        named = {0: error.reason} if len(lines) == 1 else {} if error.too_large else error.named(bare)
        for i, reason in named.items():
            self._refused(bare[i], reason)
        left = [line for i, line in enumerate(lines) if i not in named]
        half = len(left) if named else len(left) // 2
        return [b"".join(part) for part in (left[:half], left[half:]) if part]
