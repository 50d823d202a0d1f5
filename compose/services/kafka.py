"""Apache Kafka 4 as one broker that is its own controller (KRaft): `$KAFKA_HOME`, a container, or Maven Central."""

from __future__ import annotations

import os
import secrets
import shutil
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from compose.services.certificates import throw_away
from compose.services.ports import free_ports
from compose.services.programs import Missing, Program, cached, docker, tool
from compose.services.server import Server

VERSION = "4.3.1"
IMAGE = f"apache/kafka:{VERSION}"

_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>twin-engine</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""

# One broker: every internal topic has one replica, and few partitions. A first member of a group is not kept waiting for others.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""

_TLS = """\
sasl.mechanism.inter.broker.protocol=PLAIN
ssl.keystore.type=PEM
ssl.keystore.location={broker}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
"""

_SASL = """\
listener.name.{name}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.{name}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
username="{user}" password="{password}" user_{user}="{password}";
listener.name.{name}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
username="{user}" password="{password}";
"""


@dataclass(frozen=True)
class Security:
    """One user, who is also the broker to itself, and the files of TLS: broker is its key and certificate, in one file."""

    user: str
    password: str
    broker: str
    ca: str

    def scram(self) -> list[str]:
        """Return what formatting needs so that SCRAM knows the user."""
        return ["--add-scram", f"SCRAM-SHA-512=[name={self.user},password={self.password}]"]


def configuration(data: str, controller: str, listeners: dict[str, tuple[str, str]], security: Security | None = None) -> str:
    """Return server.properties. listeners: name -> (address it listens on, address that clients are told); the first is the broker's own.

    With `security` each takes SASL (PLAIN, SCRAM-SHA-512) over TLS and nothing else; without, anybody.
    """
    kind = "SASL_SSL" if security else "PLAINTEXT"
    text = _PROPERTIES.format(data=data, controller=controller)
    text += f"listeners={','.join(f'{name}://{at}' for name, (at, _) in listeners.items())},CONTROLLER://{controller}\n"
    text += f"advertised.listeners={','.join(f'{name}://{told}' for name, (_, told) in listeners.items())}\n"
    text += f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,{','.join(f'{name}:{kind}' for name in listeners)}\n"
    text += f"inter.broker.listener.name={next(iter(listeners))}\n"
    if security:
        text += _TLS.format(broker=security.broker, ca=security.ca)
        text += "".join(_SASL.format(name=name.lower(), user=security.user, password=security.password) for name in listeners)
    return text


# For the container, whose own logging goes to files; what Maven fetches logs to the same place by itself.
_LOGGING = "appender.out.type=Console\nappender.out.name=out\nrootLogger.level=info\nrootLogger.appenderRef.out.ref=out\n"


def _home() -> Program:
    if home := os.environ.get("KAFKA_HOME"):
        return Program(["java", "-cp", f"{home}/libs/*"], "Kafka ($KAFKA_HOME)")
    raise Missing("KAFKA_HOME is not set")


def _container() -> Program:
    return docker(["java", "-cp", "/opt/kafka/libs/*"], IMAGE)


def _maven() -> Program:
    if shutil.which("java") is None:
        raise Missing("Maven Central: no java on the PATH (17 or later is needed, and Maven)")

    def fetch(folder: Path) -> None:
        (folder / "pom.xml").write_text(_POM)
        where = ["-DoutputDirectory=libs", f"-Dmaven.repo.local={folder}/repository"]
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        tool(["mvn", "-q", "-B", "--strict-checksums", goal, *where], folder=folder, doing="Maven Central")
        shutil.rmtree(folder / "repository")

    return Program(["java", "-cp", f"{cached(f'kafka-{VERSION}', fetch)}/libs/*"], f"Kafka {VERSION} (Maven Central)")


WAYS = (_home, _container, _maven)


def cluster() -> str:
    """Return a new cluster's id: one that begins with a minus would be read as an option."""
    while (name := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return name


def prepare(program: Program, folder: Path, *, secure: bool) -> Server:
    """Return the server, its storage formatted; a secured one takes SASL (PLAIN, SCRAM-SHA-512) over TLS and nothing else."""
    port, inner = free_ports(2)
    at = f"127.0.0.1:{port}"
    security, facts = None, {}
    if secure:
        files = throw_away(folder / "tls", host="127.0.0.1", client="twins")
        broker = folder / "tls" / "broker.pem"
        broker.touch(0o600)
        broker.write_text(Path(files["server_key"]).read_text() + Path(files["server_certificate"]).read_text())
        security = Security("twins", secrets.token_urlsafe(18), str(broker), files["ca"])
        facts = files | {"user": security.user, "password": security.password}
    text = configuration(f"{folder}/data", f"127.0.0.1:{inner}", {"CLIENT": (at, at)}, security)
    properties = folder / "server.properties"
    properties.touch(0o600)
    properties.write_text(text)
    (folder / "log4j2.properties").write_text(_LOGGING)
    users = security.scram() if security else []
    form = ["-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format", "-t", cluster(), "-c", str(properties), *users]
    tool(program.line(form, folder), seconds=120, doing=program.source)
    arguments = ["-Xmx512m", f"-Dlog4j2.configurationFile={folder}/log4j2.properties", "kafka.Kafka", str(properties)]
    return Server.of("kafka", program, folder, arguments, probe=f"kafka:{at}", env={"KAFKA_BOOTSTRAP": at}, facts=facts)
