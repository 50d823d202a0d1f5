"""Addresses of brokers: who, where, which topic, and how it is secured. Secrets are in variables and files, never in an address."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from streams.secret import apart, secret
from streams.uri import Uri

OPTIONS = ("version", "qos", "ca", "cert", "key", "password_env", "password_file", "token_env", "token_file", "client_id", "keepalive")
_VERSIONS = {"5": 5, "3.1.1": 4}  # as the protocol numbers them


@dataclass(frozen=True)
class Broker:
    """A broker as an address names it. topic: the path. version: the protocol's number, 4 (MQTT 3.1.1) or 5."""

    uri: Uri
    place: str
    host: str
    port: int
    user: str
    topic: str
    version: int
    qos: int
    keepalive: float
    tls: ssl.SSLContext | None

    def password(self) -> str | None:
        """Return what goes with the user now (a token may be renewed in its file or variable); raises the address's kind of error."""
        found = secret(self.uri, self.place, ("password", "token"))
        if found is not None:
            return found
        return (os.environ.get("MQTT_PASSWORD") or None) if self.user else None


def parse_broker(uri: Uri, *more: str) -> Broker:
    """Return the broker of ``mqtt://USER@HOST:PORT/TOPIC?...`` or ``mqtts:``. more: options besides OPTIONS. Raises the address's error."""
    where, _, topic = uri.path.partition("/")
    user, _, at = where.rpartition("@")
    host, _, port = at.rpartition(":") if ":" in at.rpartition("]")[2] else (at, "", "")
    host = host.strip("[]")
    place = f"{uri.scheme}://{at}/{topic}"
    apart(uri, place, user, "MQTT_PASSWORD")
    uri.only(*OPTIONS, *more)
    if not host or not topic or (port and not (port.isdigit() and 0 < int(port) < 1 << 16)):
        mend = "Name the broker and the topic."
        raise uri.error(place, expected=f"{uri.scheme}://USER@HOST:PORT/TOPIC", found=uri.text, mend=mend)
    keepalive = uri.number("keepalive", 20.0)
    if not 2 <= keepalive <= 3600:
        raise uri.error(place, expected="a keepalive of 2 to 3600 s", found=str(keepalive), mend="Write keepalive=20.")
    version, qos = uri.choice("version", tuple(_VERSIONS), "5"), int(uri.choice("qos", ("0", "1"), "1"))
    secured = uri.scheme == "mqtts"
    found = Broker(
        uri, place, host, int(port or (8883 if secured else 1883)), user, topic, _VERSIONS[version], qos, keepalive,
        _context(uri, place) if secured else None,
    )  # fmt: skip
    if not secured and {"ca", "cert", "key"} & set(uri.options):
        raise uri.error(place, expected="mqtts for certificates", found="mqtt, which is not encrypted", mend="Write mqtts://.")
    found.password()
    return found


def _context(uri: Uri, place: str) -> ssl.SSLContext:
    """Return what TLS needs: the broker's name and certificate are always verified."""
    certificate, key = uri.options.get("cert"), uri.options.get("key")
    try:
        context = ssl.create_default_context(cafile=uri.options.get("ca"))
        if certificate:
            context.load_cert_chain(Path(certificate).expanduser(), Path(key).expanduser() if key else None)
    except OSError as error:
        raise uri.error(place, expected="certificates in PEM files", found=str(error), mend="Check ca, cert and key.") from None
    return context
