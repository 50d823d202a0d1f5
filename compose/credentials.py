"""Credentials of the servers in ``docker-compose.yml``, made once: passwords and tokens at random, certificates by an authority of its own.

``python -m compose.credentials FOLDER`` fills FOLDER/authority, /mosquitto, /kafka, /influx, /grafana, /engine, /fleet and /plant. Each is
a volume; a container mounts only its own, at /credentials, with files that only its user can read. What is there already stays.
"""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from compose.services import certificates, kafka, mosquitto

HOME = "/credentials"  # where a container sees its own
USERS = {"authority": 0, "mosquitto": 1883, "kafka": 1000, "influx": 1000, "grafana": 472, "engine": 10001, "fleet": 10001, "plant": 10001}
DAYS = 825
ACCESS = """\
user engine
topic read plant/#
topic readwrite twins/#
topic read $SYS/#
user fleet
topic write plant/#
user operator
topic readwrite #
topic read $SYS/#
"""


@dataclass(frozen=True)
class Site:
    """Where a server is: what it finds its credentials and its data under, its name for clients, the address and ports it listens on."""

    home: str
    data: str
    host: str
    ports: tuple[int, ...]
    address: str = ""
    controller: str = "127.0.0.1:9093"  # Kafka's talk with itself


MOSQUITTO = Site(HOME, "/mosquitto/data", "mosquitto", (8883,))
KAFKA = Site(HOME, "/var/lib/kafka/data", "kafka", (9092, 9094))  # for the other containers, and for this machine


def make(root: Path, mqtt_at: Site = MOSQUITTO, kafka_at: Site = KAFKA) -> bool:
    """Fill the folders under `root`; returns whether there was anything to do."""
    done = root / "authority" / "done"
    if done.exists():
        return False
    words = {name: secrets.token_urlsafe(24) for name in ("engine", "fleet", "operator", "kafka", "grafana", "influx", "token")}
    certificates.authority(root / "authority", days=DAYS)
    ca = (root / "authority" / "authority.pem").read_text()
    _mosquitto(root, ca, words, mqtt_at)
    _kafka(root, ca, words["kafka"], kafka_at)
    _put(root, "influx", {"password": words["influx"], "token": words["token"]})
    _put(root, "grafana", {"password": words["grafana"], "influx_token": words["token"]})
    engine = {"ca.pem": ca, "mqtt_password": words["engine"], "kafka_password": words["kafka"], "influx_token": words["token"]}
    _put(root, "engine", engine)
    _put(root, "fleet", {"ca.pem": ca, "mqtt_password": words["fleet"]})
    _put(root, "plant", {"ca.pem": ca, "kafka_password": words["kafka"]})
    done.touch()
    return True


def _mosquitto(root: Path, ca: str, words: dict[str, str], at: Site) -> None:
    files = {"ca": f"{at.home}/ca.pem", "server_certificate": f"{at.home}/server.pem", "server_key": f"{at.home}/server.key"}
    text = mosquitto.configuration(f"{at.home}/passwords", at.data) + f"acl_file {at.home}/access\n"
    text += mosquitto.listener(at.ports[0], at.address, files=files)
    certificate, key = certificates.issue(root / "authority", "mosquitto", [at.host, "localhost", "127.0.0.1"], days=DAYS)
    passwords = "".join(mosquitto.password_line(user, words[user]) for user in ("engine", "fleet", "operator"))
    kept = {"mosquitto.conf": text, "passwords": passwords, "access": ACCESS, "operator_password": words["operator"]}
    _put(root, "mosquitto", {**kept, "ca.pem": ca, "server.pem": certificate.read_text(), "server.key": key.read_text()})


def _kafka(root: Path, ca: str, password: str, at: Site) -> None:
    security = kafka.Security("engine", password, f"{at.home}/broker.pem", f"{at.home}/ca.pem")
    inside, outside = at.ports
    listeners = {
        "INSIDE": (f"{at.address}:{inside}", f"{at.host}:{inside}"),
        "OUTSIDE": (f"{at.address}:{outside}", f"localhost:{outside}"),
    }
    text = kafka.configuration(at.data, at.controller, listeners, security)
    certificate, key = certificates.issue(root / "authority", "kafka", [at.host, "localhost", "127.0.0.1"], days=DAYS)
    broker = key.read_text() + certificate.read_text()
    kept = {"server.properties": text, "cluster": kafka.cluster(), "scram": security.scram()[1], "password": password}
    _put(root, "kafka", {**kept, "broker.pem": broker, "ca.pem": ca})


def _put(root: Path, name: str, files: dict[str, str]) -> None:
    """Write files that only one user can read."""
    folder = root / name
    folder.mkdir(mode=0o700, exist_ok=True)
    for file, text in files.items():
        path = folder / file
        path.touch(0o600)
        path.write_text(text)
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            os.chown(path, USERS[name], USERS[name])


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    sys.stdout.write("credentials made\n" if made else "credentials are there\n")
