"""A certificate authority of one's own, by the openssl command."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from compose.services.programs import tool

# What strict verification (Python 3.13 and later) asks for: key usage, and identifiers of subject and issuer.
_CONFIGURATION = """\
[req]
distinguished_name = name
prompt = no
[name]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {hosts}
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def authority(folder: Path, *, days: int = 30) -> Path:
    """Make an authority in `folder`; returns its certificate."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return _make(folder, "authority", "authority", [], days)


def issue(folder: Path, name: str, hosts: Sequence[str] = (), *, days: int = 30) -> tuple[Path, Path]:
    """Return certificate and key, signed by the authority of `folder`: a server's for its hosts, or a client's of that common name."""
    signed = ["-CA", "authority.pem", "-CAkey", "authority.key"]
    certificate = _make(folder, "server" if hosts else "client", name, signed, days, hosts)
    return certificate, certificate.with_suffix(".key")


def throw_away(folder: Path, *, host: str, client: str) -> dict[str, str]:
    """Return paths by name for a test: `ca`, `server_certificate`, `server_key`, and the client's `certificate` and `key`."""
    paths = authority(folder), *issue(folder, "server", [host]), *issue(folder, client)
    names = ("ca", "server_certificate", "server_key", "certificate", "key")
    return {name: str(path) for name, path in zip(names, paths, strict=True)}


def _make(folder: Path, section: str, name: str, signed: list[str], days: int, hosts: Sequence[str] = ("localhost",)) -> Path:
    names = ", ".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts or ("localhost",))
    (folder / f"{name}.cnf").write_text(_CONFIGURATION.format(hosts=names))
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-config", f"{name}.cnf", "-extensions", section]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    tool(
        ["openssl", "req", "-x509", "-days", str(days), "-subj", f"/CN={name}", *key, *files, *signed], folder=folder, doing="certificates"
    )
    return folder / f"{name}.pem"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
