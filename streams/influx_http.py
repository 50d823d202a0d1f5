"""Writing lines to InfluxDB over HTTP: ``POST /api/v2/write``, which versions 2 and 3 serve, on one connection that is kept."""

from __future__ import annotations

import http.client
import os
import re
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from streams.uri import Uri
from twin_engine.errors import SinkError

_TIMEOUT = 10.0  # seconds without a word from the server
_ALL = re.compile(r"dropped=(\d+)")
_NAMED = re.compile(r"unable to parse '(.*?)': (.*?)(?=\nunable to parse '|\Z)", re.DOTALL)


class RefusedError(Exception):
    """The server took some of the lines, or none, and never will take the others. reason: what it said. too_large: less at once may do."""

    def __init__(self, reason: str, body: Any, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.too_large = reason, too_large
        self._body = body

    def named(self, lines: Sequence[bytes]) -> dict[int, str]:
        """Return place and reason of the lines that the server names: by number (version 3), by text (version 2), or as all; else none."""
        listed: Any = self._body.get("data") if isinstance(self._body, dict) else None
        if isinstance(listed, list):
            rows = [row for row in listed if isinstance(row, dict) and isinstance(row.get("line_number"), int)]
            found = {row["line_number"] - 1: str(row.get("error_message", self.reason)) for row in rows}
            return {i: reason for i, reason in found.items() if 0 <= i < len(lines)}
        if (dropped := _ALL.search(self.reason)) and int(dropped[1]) >= len(lines):
            return dict.fromkeys(range(len(lines)), self.reason)
        told = {match[1].encode(): match[2] for match in _NAMED.finditer(self.reason)}
        return {i: told[line] for i, line in enumerate(lines) if line in told}


class Database:
    """A bucket of a server. The token comes from the environment or a file, and is in no message."""

    def __init__(self, uri: Uri) -> None:
        self._text = uri.text
        parts = urlsplit(uri.path)
        bucket = parts.path.strip("/")
        if "token" in uri.options or "@" in parts.netloc:
            raise SinkError(
                f"influx:{parts.scheme}://{parts.hostname}", expected="the token apart from the address", found="it in the address",
                mend="Put it in a variable or a file and name that: token_env=INFLUX_TOKEN or token_file=FILE.",
            )  # fmt: skip
        if parts.scheme not in {"http", "https"} or not parts.hostname or not bucket or "org" not in uri.options:
            raise SinkError(
                uri.text,
                expected="influx:http://HOST:8086/BUCKET?org=ORG",
                found=uri.text,
                mend="Name server, bucket and organisation.",
            )
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 8086)
        self._path = f"/api/v2/write?org={quote(uri.options['org'])}&bucket={quote(bucket)}&precision=ns"
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            try:
                self._context = ssl.create_default_context(cafile=uri.options.get("ca"))
            except OSError as error:
                raise SinkError(uri.text, expected="a file of certificates (ca)", found=str(error), mend="Check the path.") from None
        self._token, self._mend = _token(uri)
        self._connection: http.client.HTTPConnection | None = None

    def post(self, data: bytes) -> None:
        """Write lines; returns once the server has taken all. Raises RefusedError, or SinkError where it is down or denies access."""
        status, body = self._request(data)
        if status in {200, 204}:
            return
        reason = _reason(body)
        if status in {400, 413, 422}:
            raise RefusedError(reason, body, too_large=status == 413)
        mend = {
            401: self._mend,
            403: self._mend,
            404: "Create the bucket, or mend its name or the organisation's in the address.",
            429: "It is overloaded or over its quota; nothing is lost, the lines are sent again.",
        }.get(status, "See the server's log.")
        raise SinkError(self._text, expected="lines to be taken", found=f"HTTP {status}, {reason}", mend=mend)

    def check(self) -> None:
        """Raise SinkError unless the server is there and lets us write: an empty write has no other effect."""
        try:
            with suppress(RefusedError):
                self.post(b"")
        finally:
            self.close()

    def _request(self, data: bytes) -> tuple[int, Any]:
        """Return status and body; a connection that the server has meanwhile closed is opened again, once. A write twice is one write."""
        headers = {"Authorization": f"Token {self._token}", "Content-Type": "text/plain; charset=utf-8"}
        kept = self._connection is not None
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request("POST", self._path, data, headers)
            response = self._connection.getresponse()
            return response.status, _parsed(response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and not isinstance(error, TimeoutError):
                return self._request(data)
            raise SinkError(
                self._text, expected="the server to answer", found=str(error) or type(error).__name__, mend="Start it, or mend the address."
            ) from None

    def _connect(self) -> http.client.HTTPConnection:
        if self._context:
            return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _token(uri: Uri) -> tuple[str, str]:
    """Return the token, and what to do when the server does not take it; raises SinkError where there is none."""
    if file := uri.options.get("token_file"):
        try:
            text = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise SinkError(uri.text, expected="a file with the token", found=str(error), mend="Check token_file.") from None
        place = f"the file {file}"
    else:
        variable = uri.options.get("token_env", "INFLUX_TOKEN")
        text, place = os.environ.get(variable, "").strip(), f"${variable}"
    if not text or not text.isprintable() or not text.isascii():
        raise SinkError(uri.text, expected=f"a token in {place}", found="none" if not text else "other characters", mend="Put it there.")
    return text, f"Put a token into {place} that may write to this bucket."


def _parsed(body: bytes) -> Any:
    """Return a body as JSON, or as text where it is none."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode(errors="replace")


def _reason(body: Any) -> str:
    """Return what the server says is wrong."""
    if isinstance(body, dict):
        return str(body.get("message") or body.get("error") or body)
    return str(body).strip() or "no reason given"
