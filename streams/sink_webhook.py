"""Events to a web service: each a POST of JSON, tried again until it is taken, in order."""

from __future__ import annotations

import http.client
import os
import ssl
from pathlib import Path
from urllib.parse import quote, urlsplit

import msgspec

from streams.dead_letter import DeadLetter
from streams.uri import Uri
from twin_engine.clock import Clock, WallClock
from twin_engine.errors import SinkError
from twin_engine.records import Event, Position, Reason, Reject, Update, event_line

_TRIES, _WAIT = 4, 0.2  # attempts of one flush; seconds before the second, doubled each time
_LOCAL = ("127.0.0.1", "::1", "localhost")
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_MENDABLE = (401, 403, 404, 405, 407)


def open_webhook(uri: Uri, show: tuple[str, ...]) -> WebhookSink:
    """Open ``webhook:https://HOST/PATH?token_env=WEBHOOK_TOKEN&revisions=final|all``.

    token_env, token_file: a variable or file with a bearer token. ca: certificates to trust in place of the system's. timeout: s (default
    10) without a word. refused: the file that keeps events which the service will never take (default ``HOST.refused.jsonl``).
    """
    del show
    parts = urlsplit(uri.path)
    place = f"webhook:{parts.scheme}://{parts.hostname}{parts.path}"
    if parts.username or parts.password or "token" in uri.options:
        mend = "Put it in a variable or a file and name that: token_env=WEBHOOK_TOKEN or token_file=FILE."
        raise SinkError(place, expected="the token apart from the address", found="it in the address", mend=mend)
    uri.only("token_env", "token_file", "ca", "timeout", "revisions", "refused")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SinkError(uri.text, expected="webhook:https://HOST/PATH", found=uri.path, mend="Name the service.")
    return WebhookSink(uri, place)


class WebhookSink:
    """Posts events at flush. ``Idempotency-Key`` is id and revision: a crash may post one twice, which the service can tell by it.

    A redirect is refused: what is posted goes to the host that was named and to no other.
    """

    def __init__(self, uri: Uri, place: str, clock: Clock | None = None) -> None:
        parts = urlsplit(uri.path)
        self._uri, self._place, self._clock = uri, place, clock or WallClock()
        self._host, self._path = parts.hostname or "", parts.path or "/"
        self._secured = parts.scheme == "https"
        try:
            self._port = parts.port
            self._context = ssl.create_default_context(cafile=uri.options.get("ca")) if self._secured else None
        except (OSError, ValueError) as error:
            raise SinkError(place, expected="a port and a file of certificates (ca)", found=str(error), mend="Check both.") from None
        self._timeout = uri.number("timeout", 10.0)
        self._every = uri.choice("revisions", ("final", "all"), "final") == "all"
        if self._token() and not self._secured and self._host not in _LOCAL:
            raise SinkError(place, expected="https, for a token", found="http", mend="Write webhook:https://.")
        self._dead = DeadLetter(Path(uri.options.get("refused", f"{self._host}.refused.jsonl")).expanduser())
        self._dead_end: Position = None
        self._dead_open = False
        self._waiting: list[Event] = []
        self._connection: http.client.HTTPConnection | None = None

    def _token(self) -> str:
        if file := self._uri.options.get("token_file"):
            try:
                return Path(file).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SinkError(self._place, expected="a file with the token", found=str(error), mend="Check token_file.") from None
        if name := self._uri.options.get("token_env"):
            if text := os.environ.get(name, ""):
                return text
            raise SinkError(self._place, expected=f"a token in ${name}", found="nothing", mend="Set the variable.")
        return ""

    def open(self, position: Position) -> None:
        """Begin with nothing waiting. The service is first met by the first event."""
        self._waiting = []
        self._dead_end = position
        self._hang_up()

    def write(self, update: Update) -> None:
        """Take an update's events, to be posted at flush."""
        self._waiting += [event for event in update.events if event.final or self._every]

    def flush(self) -> Position:
        """Post what is waiting, in order; raises SinkError where the service does not take it after some attempts."""
        while self._waiting:
            event = self._waiting[0]
            body = event_line(event).rstrip(b"\n")
            if why := self._post(body, event.id, event.revision):
                self._refuse(body, why)
            del self._waiting[0]
        if self._dead_open:
            self._dead_end = self._dead.flush()
        return self._dead_end

    def again(self, raw: bytes) -> str:
        """Post an event that was refused before; return why the service will not take it, empty where it has. Raises SinkError."""
        event = msgspec.json.decode(raw)
        return self._post(raw, event["id"], event["revision"])

    def _post(self, body: bytes, name: str, revision: int) -> str:
        """Return why the service will never take an event, empty where it has; raises SinkError where it may yet."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"{quote(name, safe='')}:{revision}"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        found = ""
        for attempt in range(_TRIES):
            if attempt:
                self._clock.sleep(_WAIT * 2 ** (attempt - 1))
            try:
                status, reason = self._request(body, headers)
            except (OSError, http.client.HTTPException) as error:
                self._hang_up()
                found = str(error) or type(error).__name__
                continue
            if 200 <= status < 300:
                return ""
            found = f"HTTP {status} {reason}".rstrip()
            if 300 <= status < 400:
                raise SinkError(self._place, expected="the event to be taken", found=f"{found}, a redirect", mend="Name the last address.")
            if status in _MENDABLE:
                raise SinkError(self._place, expected="the event to be taken", found=found, mend="Mend the address or the token.")
            if status not in _TRY_AGAIN:
                return found
        raise SinkError(self._place, expected="the event to be taken", found=found, mend="Start the service, or mend the address.")

    def _request(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        if self._connection is None:
            kind = (
                http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._context)
                if self._secured
                else http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            )
            self._connection = kind
        self._connection.request("POST", self._path, body, headers)
        response = self._connection.getresponse()
        response.read(1 << 16)
        if not response.isclosed():
            self._hang_up()
        return response.status, response.reason

    def _refuse(self, body: bytes, why: str) -> None:
        """Keep an event that the service will never take."""
        if not self._dead_open:
            size = self._dead.path.stat().st_size if self._dead.path.exists() else 0
            self._dead.open(self._dead_end or {"offset": size, "unwritten": {}})
            self._dead_open = True
        self._dead.write(Reject(Reason.REFUSED, why, self._place, body))

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """Post what is waiting, and close."""
        try:
            self.flush()
        finally:
            self._hang_up()
            if self._dead_open:
                self._dead_open = False
                self._dead.close()
