"""Events as records, from the marks of an alarm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from twin_engine.ports import Marks, MarksSpec
from twin_engine.records import Event

SEVERITIES: tuple[str, ...] = ("info", "warning", "critical")  # what the column ``severity`` points into


def event_id(twin: str, definition: str, asset: str, stage: str, kind: str, onset: int, ordinal: int) -> str:
    """Return 16 hex digits that are the same whenever the same input makes the same event."""
    text = "\0".join((twin, definition, asset, stage, kind, str(onset), str(ordinal)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_events(
    marks: Marks, spec: MarksSpec, twin_name: str, definition_digest: str, stage_name: str, asset_names: list[str]
) -> list[Event]:
    """Return the revisions of events that marks with ``spec.events`` carry, in their order. asset_names: of each row of the fleet."""
    columns = {name: np.asarray(column).tolist() for name, column in marks.columns.items()}
    kind = spec.kind or "anomaly"
    found: list[Event] = []
    for i, row in enumerate(cast("list[int]", marks.row.tolist())):
        at: dict[str, Any] = {name: column[i] for name, column in columns.items()}
        asset: str = asset_names[row]
        found.append(
            Event(
                id=event_id(twin_name, definition_digest, asset, stage_name, kind, at["start"], at["ordinal"]),
                twin=twin_name, asset=asset, stage=stage_name, kind=kind, severity=SEVERITIES[int(at["severity"])],
                start=at["start"], peak=at["peak"], end=at["end"], score=at["score"], p_value=at["p_value"],
                channels=_weights(spec.channels, at["weight"]), revision=at["revision"], final=at["final"],
                frequency=at.get("frequency"), bandwidth=at.get("bandwidth"), snr=at.get("snr"),
                class_=_class(at.get("class"), spec.classes),
            )
        )  # fmt: skip
    return found


def _weights(names: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Return channel -> weight, the largest first, without those that have no part."""
    order = sorted(range(len(names)), key=lambda k: (-weights[k], k))
    return {names[k]: weights[k] for k in order if weights[k] > 0}


def _class(code: Any, names: tuple[str, ...]) -> str | None:
    if code is None or code < 0:
        return None
    place = int(code)
    return names[place] if place < len(names) else str(place)
