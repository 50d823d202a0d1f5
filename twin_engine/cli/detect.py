"""``twin-engine detect``: files of rows in, the same rows with scores out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.tables import SUFFIXES, Series, is_table, read, write
from twin_engine.errors import InputError
from twin_engine.frames import Detector, Scores

CHUNK = 4096  # rows between two looks at the progress bar


def detect_path(source: Path, target: Path, *, time: str, values: Sequence[str], detector: str, unit: str, plot: Path | None) -> None:
    """Score a file, or every table under a folder, in one process; the output has the same tree.

    A file of a folder that cannot be read is told, with the others done; then InputError is raised at the end. Raises TwinError.
    """
    jobs = _jobs(source, target, plot)
    Detector(detector, len(values))  # a wrong name is told before anything is read
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        files = progress.add_task("files", total=len(jobs))
        rows = progress.add_task("rows")
        failed: list[InputError] = []
        for path, out, picture in jobs:
            try:
                series = read(path, time, values, unit)
            except InputError as error:
                failed.append(error)
                progress.advance(files)
                continue
            progress.reset(rows, total=len(series.times))
            judge = Detector(detector, len(values))
            scores = judge_all(series, judge, lambda n: progress.advance(rows, n))
            write(out, series, scores.score, scores.p_value, scores.alarm)
            if text := summary(series, judge.counts):
                progress.console.print(f"{path}: {text}", markup=False, soft_wrap=True)
            if picture:
                from twin_engine.cli.plot import draw

                kept = ~scores.masked
                draw(picture, path.name, values, series.times[kept], series.values[kept], scores.score[kept], scores.alarm[kept])
            progress.advance(files)
    if failed and len(jobs) == 1:
        raise failed[0]
    if failed:
        mend = "Mend these:" + "".join(f"\n  {error}" for error in failed)
        raise InputError(str(source), expected="files that can be read", found=f"{len(failed)} of {len(jobs)} that cannot be", mend=mend)


def summary(series: Series, counts: Mapping[str, int]) -> str:
    """Return how many rows were masked and why, and what else is to be told; nothing if all is well."""
    masked = {what: n for what, n in counts.items() if what != "repeated time"}
    parts = [f"{sum(masked.values())} masked ({', '.join(f'{what}: {n}' for what, n in masked.items())})"] if masked else []
    if "repeated time" in counts:
        parts.append(f"{counts['repeated time']} at the time of the row before (judged)")
    if series.unreadable:
        parts.append(f"{series.unreadable} values that are no numbers (taken as missing)")
    return f"{len(series.times)} rows, {', '.join(parts)}" if parts else ""


def judge_all(series: Series, detector: Detector, told: Callable[[int], object]) -> Scores:
    """Return the judgement of every row; ``told`` gets the number of rows of each chunk."""
    parts: list[Scores] = []
    for first in range(0, max(1, len(series.times)), CHUNK):
        chunk = slice(first, first + CHUNK)
        parts.append(detector.update(series.times[chunk], series.values[chunk]))
        told(len(parts[-1].score))
    return Scores.join(parts)


def _jobs(source: Path, target: Path, plot: Path | None) -> list[tuple[Path, Path, Path | None]]:
    """Return what to read, where to write it and where to draw it."""
    if not source.is_dir():
        out = target / source.name if target.is_dir() else target
        if source.exists() and out.exists() and out.samefile(source):
            raise InputError("--to", expected="another file than the input", found=str(out), mend="Name another file.")
        return [(source, out, plot)]
    if target.is_file() or (target.exists() and target.samefile(source)):
        found = "the input itself" if target.is_dir() else f"the file {target}"
        raise InputError("--to", expected="a folder of its own, as the input is a folder", found=found, mend="Name another folder.")
    inside = [p for p in sorted(source.rglob("*")) if p.is_file() and is_table(p) and not p.is_relative_to(target)]
    if not inside:
        raise InputError(str(source), expected=f"files ending in {', '.join(SUFFIXES)}", found="none", mend="Check the folder.")
    names = [p.relative_to(source) for p in inside]
    return [(source / n, target / n, plot / n.with_suffix(".png") if plot else None) for n in names]
