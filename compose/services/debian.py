"""Programs of the system's package archive, unpacked into a folder: nothing is installed, no root is needed, no service is started."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from compose.services.programs import tool


def unpack(package: str, folder: Path) -> None:
    """Unpack a package, and those of its dependencies that this system lacks, under `folder`. Missing when the archive cannot be asked."""
    doing = f"package {package}"
    apt = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    options = ["-q", "-o", f"Dir::State::Lists={apt}/lists", "-o", f"Dir::Cache={apt}/cache", "-o", "APT::Sandbox::User=root"]
    tool(["apt-get", "update", *options], doing=doing)
    plan = tool(["apt-get", "install", "--simulate", "--reinstall", "--no-install-recommends", *options, package], doing=doing)
    tool(["apt-get", "download", *options, *re.findall(r"^Inst (\S+)", plan, re.MULTILINE)], folder=apt, doing=doing)
    for file in sorted(apt.glob("*.deb")):
        tool(["dpkg-deb", "--extract", str(file), str(folder)], doing=doing)
    shutil.rmtree(apt)


def libraries(folder: Path) -> str:
    """Return the search path of the libraries that were unpacked under `folder`."""
    return ":".join(sorted({str(path.parent) for path in folder.rglob("*.so*")}))
