"""Every Python block and every `twin-engine` command in README and docs runs, page by page, in a folder of its own."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from twin_engine.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if "decisions" not in p.parts]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def blocks(page: Path) -> list[tuple[str, str]]:
    return [(kind, text) for kind, text in BLOCK.findall(page.read_text()) if kind in {"python", "sh"}]


def called(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a line that is a `twin-engine` command, in this process: its start costs more than most examples."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["twin-engine"]:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, line


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    for kind, text in blocks(page):
        if kind == "python":
            title = text.splitlines()[0].removeprefix("# ") if text.startswith("# ") else ""
            if title.endswith(".py"):
                (tmp_path / title).write_text(text)
            exec(compile(text, str(page), "exec"), names)  # noqa: S102 - the examples of this repository
        for line in text.replace("\\\n", " ").splitlines() if kind == "sh" else ():
            called(line, monkeypatch)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
