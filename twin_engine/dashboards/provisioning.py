"""The files of Grafana's provisioning: ``provisioning/`` for ``/etc/grafana/provisioning`` and ``dashboards/`` for the folder it names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from twin_engine.dashboards import boards
from twin_engine.dashboards.alerts import groups
from twin_engine.dashboards.panels import DATASOURCE, METRICS
from twin_engine.graph import bind
from twin_engine.twin import Twin

FOLDER = "/var/lib/grafana/dashboards"
WIDTH = 24  # of Grafana's grid
HEAD = "# Made by `twin-engine dashboards`; changes here are written over.\n"


def files(twins: Sequence[Twin]) -> dict[str, str]:
    """Return path -> text of all files for some twins.

    Addresses and token come from Grafana's environment: INFLUX_URL, INFLUX_ORG, INFLUX_BUCKET, INFLUX_TOKEN, PROMETHEUS_URL.
    """
    made = {boards.uid("fleet"): boards.fleet(twins), boards.uid("health"): boards.health(), boards.uid("service"): boards.service()}
    for graph in map(bind, twins):
        made[boards.uid("asset", graph.twin.name)] = boards.asset(graph)
        if any(boards.transients(graph)):
            made[boards.uid("glitchgram", graph.twin.name)] = boards.glitchgram(graph)
    found = {f"dashboards/{name}.json": _json(board) for name, board in sorted(made.items())}
    source = {
        "name": "Twins", "uid": DATASOURCE.uid, "type": DATASOURCE.type_val, "access": "proxy", "url": "$INFLUX_URL", "isDefault": True,
        "editable": False, "jsonData": {"version": "Flux", "organization": "$INFLUX_ORG", "defaultBucket": "$INFLUX_BUCKET"},
        "secureJsonData": {"token": "$INFLUX_TOKEN"},
    }  # fmt: skip
    metrics = {
        "name": "Service", "uid": METRICS.uid, "type": METRICS.type_val, "access": "proxy", "url": "$PROMETHEUS_URL", "editable": False,
        "jsonData": {"httpMethod": "POST"},
    }  # fmt: skip
    provider = {"name": "twin-engine", "orgId": 1, "folder": "Digital twins", "type": "file", "options": {"path": FOLDER}}
    found["provisioning/datasources/influxdb.yaml"] = yaml({"apiVersion": 1, "datasources": [source]})
    found["provisioning/datasources/prometheus.yaml"] = yaml({"apiVersion": 1, "datasources": [metrics]})
    found["provisioning/dashboards/twins.yaml"] = yaml({"apiVersion": 1, "providers": [provider]})
    found["provisioning/alerting/rules.yaml"] = yaml(groups(twins))
    return found


def _json(board: Dashboard) -> str:
    """Return a dashboard as Grafana's JSON: panels numbered from 1, side by side as far as there is room, then below.

    What the builders put in and Grafana 13 no longer knows is left out: the footer of tables, ``auto`` of variables.
    """
    document = json.loads(JSONEncoder(sort_keys=True).encode(board.build()))
    for variable in document.get("templating", {}).get("list", []):
        for key in ("auto", "auto_count", "auto_min"):
            variable.pop(key, None)
    x = y = height = 0
    for number, panel in enumerate(document["panels"], 1):
        place: dict[str, int] = panel["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        panel["options"].pop("footer", None)
        panel["id"], place["x"], place["y"] = number, x, y
        x, height = x + place["w"], max(height, place["h"])
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def yaml(document: Any) -> str:
    """Return mappings, lists and scalars as YAML: scalars as in JSON, which is YAML too; texts of several lines as such."""
    return HEAD + "\n".join(_lines(document)) + "\n"


def _lines(node: Any) -> Iterator[str]:
    """Yield the lines of a mapping or list that is not empty."""
    named = cast("dict[str, Any]", node) if isinstance(node, dict) else {}
    pairs = [(f"{key}:", value) for key, value in named.items()] or [("-", value) for value in cast("list[Any]", node)]
    for mark, value in pairs:
        if isinstance(value, dict | list) and value:
            inner = list(_lines(value))
            if mark == "-":
                yield f"- {inner[0]}"
                yield from (f"  {line}" for line in inner[1:])
            else:
                yield mark
                yield from (f"  {line}" for line in inner)
        elif isinstance(value, str) and "\n" in value:
            yield f"{mark} |-"
            yield from (f"  {line}" for line in value.split("\n"))
        else:
            yield f"{mark} {json.dumps(value, ensure_ascii=False)}"
