"""``twin-engine dashboards``: Grafana's provisioning for some twins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twin_engine.errors import SinkError
from twin_engine.loader import catalogue, load

EXTRA = "twin-engine[service]"


def write(names: Sequence[str], target: Path) -> list[Path]:
    """Write the files for the twins named (none: the whole catalogue) and return what there is; raises TwinError."""
    try:
        from twin_engine.dashboards.provisioning import files
    except ImportError:
        raise SinkError("dashboards", expected="Grafana's builders", found="not installed", mend=f"Install {EXTRA}.") from None
    written: list[Path] = []
    try:
        for name, text in files([load(name) for name in names or sorted(catalogue())]).items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise SinkError(str(target), expected="a folder that can be written", found=str(error), mend="Choose another.") from None
    return written
