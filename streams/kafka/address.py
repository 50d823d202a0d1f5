"""Topics by address: ``kafka://USER@HOST:9092,HOST:9092/TOPIC?...``, or ``kafkas:`` for TLS. Secrets are in variables and files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from streams.kafka.client import MECHANISMS, Kafka
from streams.secret import apart, secret
from streams.uri import Uri
from twin_engine.errors import InputError

OPTIONS = ("mechanism", "password_env", "password_file", "ca", "cert", "key")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")  # what Kafka takes


@dataclass(frozen=True)
class Topic:
    """A topic as an address names it. place: the address without options, for messages."""

    place: str
    kafka: Kafka
    name: str


def parse_topic(uri: Uri, *more: str) -> Topic:
    """Return what an address names. more: options besides OPTIONS. Raises the address's kind of error, which says how to mend it."""
    where, _, name = uri.path.partition("/")
    user, _, at = where.rpartition("@")
    place = f"{uri.scheme}://{at}/{name}"
    apart(uri, place, user, "KAFKA_PASSWORD")
    uri.only(*OPTIONS, *more)
    hosts = [host if re.search(r":\d+$", host) else f"{host}:9092" for host in at.split(",") if host]
    if not hosts or any(not 0 < int(host.rpartition(":")[2]) < 1 << 16 or host.startswith(":") for host in hosts):
        mend = f"Write {uri.scheme}://HOST:9092/TOPIC, several brokers as HOST:9092,HOST:9092."
        raise uri.error(place, expected="a broker", found=at or "none", mend=mend)
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        mend = f"Write {uri.scheme}://{at}/TOPIC; a topic has letters, digits, dots, - and _."
        raise uri.error(place, expected="the name of a topic", found=name or "none", mend=mend)
    tls = uri.scheme == "kafkas"
    ca, cert, key = (Path(uri.options[o]).expanduser() if o in uri.options else None for o in ("ca", "cert", "key"))
    if not tls and (ca or cert or key):
        raise uri.error(place, expected="kafkas for certificates", found="kafka, which is not encrypted", mend="Write kafkas://.")
    password = secret(uri, place) or (os.environ.get("KAFKA_PASSWORD", "") if user else "")
    mechanism = uri.choice("mechanism", MECHANISMS, "SCRAM-SHA-512")
    if bool(user) != bool(password):
        mend = "Write kafka://USER@HOST/TOPIC and set KAFKA_PASSWORD, or name password_env=VARIABLE or password_file=FILE."
        raise uri.error(place, expected="user and password", found="one of them", mend=mend)
    kafka = Kafka(",".join(hosts), user, password, mechanism, tls, ca, cert, key)
    try:
        kafka.context()
    except InputError as error:
        raise uri.error(error.place, expected=error.expected, found=error.found, mend=error.mend) from None
    return Topic(place, kafka, name)
