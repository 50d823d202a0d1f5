"""The configuration of a service: a TOML file, over which the environment wins (``TWIN_ENGINE__KAFKA__BOOTSTRAP=...``).

Unknown keys are refused with the nearest known one. Secrets are not in the file: ``password_env`` and ``password_file`` say where they are.
"""

from __future__ import annotations

import os
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streams.kafka.client import Kafka
from streams.uri import nearest
from twin_engine.errors import InputError

PREFIX = "TWIN_ENGINE__"  # of variables
_TABLES = ("input.options", "mqtt.options")  # whose keys are a codec's own


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSection(_Section):
    """Where the cluster is. See ``streams.kafka.client.Kafka``."""

    bootstrap: str = "127.0.0.1:9092"
    user: str = ""
    password_env: str = ""
    password_file: Path | None = None
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def cluster(self) -> Kafka:
        """Return the cluster with its password; raises InputError where that is not to be had."""
        password = secret("kafka.password", self.password_env, self.password_file) if self.user else ""
        return Kafka(self.bootstrap, self.user, password, self.mechanism, self.tls, self.ca, self.cert, self.key)


class InputSection(_Section):
    """What comes in. See ``streams.codecs.open_codec``; the subject of a record is its key. partitioner: of those who produce it."""

    topic: str = ""
    codec: str = "arrow"
    pattern: str = "{asset}"
    options: dict[str, str] = Field(default_factory=dict)
    partitioner: Literal["murmur2", "crc32"] = "murmur2"
    partitions: int = Field(default=0, ge=0, description="create the topic with so many where it is not there (0: do not)")


class MqttSection(_Section):
    """A broker of MQTT to read from: what ``mqtt://USER@HOST:PORT/TOPIC?...`` says, key by key (``tls``: ``mqtts``); see the guide on MQTT.

    options: of the codec. What is not given is as in an address without it.
    """

    host: str = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    user: str = ""
    topic: str = ""
    tls: bool = False
    codec: str | None = None
    qos: int | None = None
    version: str | None = None
    password_env: str | None = None
    password_file: Path | None = None
    token_env: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    client_id: str | None = None
    keepalive: float | None = None
    receive_maximum: int | None = None
    session_expiry: int | None = None
    log_cap: int | None = None
    options: dict[str, str] = Field(default_factory=dict)

    def address(self) -> str:
        """Return the same as an address; raises InputError where no broker or topic is named."""
        if not self.host or not self.topic:
            raise InputError(
                "[mqtt]", expected="host and topic", found="none", mend="Write them there, or give the address: --from mqtt://..."
            )
        said = self.model_dump(exclude_none=True, exclude={"host", "port", "user", "topic", "tls", "options"}) | self.options
        user, port = f"{quote(self.user)}@" if self.user else "", f":{self.port}" if self.port else ""
        query = urlencode(said, quote_via=quote, safe="/")
        return f"mqtt{'s' * self.tls}://{user}{self.host}{port}/{quote(self.topic, safe='/{}')}?{query}"


class WorkerSection(_Section):
    """How a worker works. seconds: snapshot_every, session; hours: retention of outputs in Kafka."""

    runtime: Literal["faust", "aiokafka"] = "faust"
    member: str = ""
    snapshot_every: float = Field(default=10.0, gt=0)
    session: float = Field(default=10.0, ge=6)
    retention: float = Field(default=24.0, gt=0)
    replication: int = Field(default=1, ge=1)


class SinkSection(_Section):
    """A sink by its address. state: a file that keeps the position of one that cannot overwrite."""

    to: str
    state: Path | None = None


class HistorySection(_Section):
    """Where ``twin-engine record`` keeps the input: a folder of Parquet segments. every: seconds between them."""

    folder: Path | None = None
    every: float = Field(default=10.0, gt=0)


class MetricsSection(_Section):
    """Where ``/metrics``, ``/livez`` and ``/readyz`` are served (port 0: nowhere)."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)


class LogSection(_Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Config(BaseSettings):
    """All of it. assets: names and ranges (``turbine-[001-100]``); assets_file: one a line."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__")

    twin: str
    app: str = "twin-engine"
    assets: tuple[str, ...] = ()
    assets_file: Path | None = None
    kafka: KafkaSection = KafkaSection()
    input: InputSection = InputSection()
    mqtt: MqttSection = MqttSection()
    worker: WorkerSection = WorkerSection()
    sinks: dict[str, SinkSection] = Field(default_factory=dict)
    history: HistorySection = HistorySection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def read_config(path: Path) -> Config:
    """Return the configuration of a file and the environment; raises InputError that names the key."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(str(path), expected="a TOML file", found=str(error), mend="Check the path and the line.") from None
    known = sorted(_keys(Config))
    for name in os.environ:
        if name.upper().startswith(PREFIX) and not _known(key := name[len(PREFIX) :].lower().replace("__", "."), known):
            raise InputError(f"variable {name}", expected="a known key", found=key, mend=nearest(key, known))
    try:
        return Config(**given)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a key that is mistyped may be missing too
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            table, name, *_ = (*first["loc"], "")
            here = [k.replace("*", str(name), 1) for k in known if k.startswith(f"{table}.*.")]
            raise InputError(f"{path}, key {key!r}", expected="a known key", found=key, mend=nearest(key, here or known)) from None
        # the value is not told: it may hold a secret, or all the rest
        expected, found = first["msg"].removeprefix("Input should be "), "nothing" if first["type"] == "missing" else "another value"
        raise InputError(f"{path}, key {key!r}", expected=expected, found=found, mend="Mend the value.") from None


def _known(key: str, known: list[str]) -> bool:
    """Whether a key is one of the known ones, a section of them as a whole, or within a table whose keys are free."""
    return any(fnmatch(key, k) or k.startswith(f"{key}.") or (k in _TABLES and key.startswith(f"{k}.")) for k in known)


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the keys of a model and of the sections in it; ``*`` stands for a name that is chosen freely."""
    found: list[str] = []
    for name, about in model.model_fields.items():
        kind: Any = about.annotation
        if get_origin(kind) is dict and issubclass(get_args(kind)[1], BaseModel):
            found += _keys(get_args(kind)[1], f"{prefix}{name}.*.")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _keys(kind, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}")
    return found


def secret(name: str, env: str, file: Path | None) -> str:
    """Return a secret from a variable of the environment or from a file; raises InputError that names neither's content."""
    if env and env in os.environ:
        return os.environ[env]
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(f"{name}_file", expected="a file that can be read", found=str(error), mend="Check path and rights.") from None
    found = f"the variable {env} unset" if env else "neither"
    raise InputError(name, expected=f"{name}_env or {name}_file", found=found, mend="Say where the secret is.")
