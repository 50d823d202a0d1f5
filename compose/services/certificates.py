"""A throw-away certificate authority, by the openssl command: a server's and a client's certificate, valid for a month."""

from __future__ import annotations

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
subjectAltName = DNS:localhost, IP:{server}
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def authority(folder: Path, *, server: str, client: str) -> dict[str, str]:
    """Return paths by name: `ca`, `server_certificate`, `server_key`, the client's `certificate` and `key`; `client` is a common name."""
    folder.mkdir(mode=0o700)
    (folder / "openssl.cnf").write_text(_CONFIGURATION.format(server=server))
    _issue(folder, "authority", "throw-away authority", [])
    signed = ["-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key")]
    _issue(folder, "server", server, signed)
    _issue(folder, "client", client, signed)
    names = ("ca", "server_certificate", "server_key", "certificate", "key")
    files = ("authority.pem", "server.pem", "server.key", "client.pem", "client.key")
    return {name: str(folder / file) for name, file in zip(names, files, strict=True)}


def _issue(folder: Path, section: str, name: str, signed: list[str]) -> None:
    files = ["-keyout", f"{section}.key", "-out", f"{section}.pem", "-config", "openssl.cnf", "-extensions", section]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    tool(["openssl", "req", "-x509", "-days", "30", "-subj", f"/CN={name}", *key, *files, *signed], folder=folder, doing="certificates")
