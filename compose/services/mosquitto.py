"""Eclipse Mosquitto 2: a container, the PATH, or the system's package."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import secrets
from pathlib import Path

from compose.services.certificates import throw_away
from compose.services.debian import libraries, unpack
from compose.services.ports import free_ports
from compose.services.programs import Missing, Program, cached, docker, which
from compose.services.server import Server

IMAGE = "eclipse-mosquitto:2.0.22"

# Without persistence a restart forgets sessions. With the default limits (20 in flight, 1000 queued) a consumer that is away, or slow to
# acknowledge, loses QoS 1 messages that the publisher was told are safe. 0 ("no limit") is not honoured by every version.
_COMMON = """\
allow_anonymous false
password_file {passwords}
persistence true
persistence_location {data}/
autosave_interval 60
max_inflight_messages 1000
max_queued_messages 1000000
sys_interval 1
set_tcp_nodelay true
log_dest stdout
log_type error
log_type warning
log_type notice
connection_messages false
"""


def _container() -> Program:
    return docker(["mosquitto"], IMAGE)


def _installed() -> Program:
    path = which("mosquitto")
    if path is None:
        raise Missing("no mosquitto on the PATH")
    return Program([path], f"Mosquitto ({path})")


def _package() -> Program:
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        raise Missing("no package archive on this system") from None
    name = f"mosquitto-{system['ID']}-{system.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    folder = cached(name, lambda draft: unpack("mosquitto", draft))
    environment = {"LD_LIBRARY_PATH": libraries(folder)}
    return Program([str(folder / "usr/sbin/mosquitto")], f"Mosquitto (package of {system['PRETTY_NAME']})", environment=environment)


WAYS = (_container, _installed, _package)


def password_line(user: str, password: str) -> str:
    """Return a line of a password file: PBKDF2 with SHA-512, Mosquitto's format 7, which 2.0 reads too."""
    salt, rounds = secrets.token_bytes(12), 101
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"{user}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n"


def configuration(passwords: str, data: str) -> str:
    """Return what holds for every listener."""
    return _COMMON.format(passwords=passwords, data=data)


def listener(port: int, address: str = "", *, files: dict[str, str] | None = None, mutual: bool = False) -> str:
    """Return a listener: of TLS with `files` (ca, server_certificate, server_key); `mutual` asks for a client certificate."""
    text = f"listener {port} {address}".strip() + "\n"
    if files:
        text += f"cafile {files['ca']}\ncertfile {files['server_certificate']}\nkeyfile {files['server_key']}\ntls_version tlsv1.2\n"
    return text + ("require_certificate true\nuse_identity_as_username true\n" if mutual else "")


def prepare(program: Program, folder: Path, *, secure: bool) -> Server:
    """Return the server: `MQTT_URL` carries user and password; a secured one has a second listener that asks for a client certificate."""
    port, mutual = free_ports(2)
    user, password = "twins", secrets.token_urlsafe(18)
    facts = {"user": user, "password": password}
    files: dict[str, str] = {}
    text = configuration(f"{folder}/passwords", f"{folder}/data")
    if os.getuid() == 0:
        text += "user root\n"  # else it becomes another user, who cannot read the folder
    if secure:
        files = throw_away(folder / "tls", host="127.0.0.1", client=user)
        facts |= files | {"mutual_url": f"mqtts://127.0.0.1:{mutual}"}
    text += listener(port, "127.0.0.1", files=files)
    if secure:
        text += listener(mutual, "127.0.0.1", files=files, mutual=True)
    (folder / "data").mkdir()
    (folder / "passwords").touch(0o600)
    (folder / "passwords").write_text(password_line(user, password))
    (folder / "mosquitto.conf").write_text(text)
    env = {"MQTT_URL": f"{'mqtts' if secure else 'mqtt'}://{user}:{password}@127.0.0.1:{port}"}
    return Server.of("mosquitto", program, folder, ["-c", f"{folder}/mosquitto.conf"], probe=f"tcp:{port}", env=env, facts=facts)
