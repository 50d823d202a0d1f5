"""Alert rules, as Grafana's file provisioning takes them: a query, its last value, and a threshold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from grafana_foundation_sdk.builders import alerting, expr
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import alerting as kinds
from grafana_foundation_sdk.models import common

from twin_engine.dashboards.flux import HEALTH, points, text
from twin_engine.dashboards.panels import DATASOURCE, METRICS, Asked, Built
from twin_engine.twin import Twin

MINUTES = 5  # that a rule looks back
NEVER = 1e300  # a limit for a rule that only silence sets off
SERVICE = [  # key, title, PromQL, limit, for how long, severity, summary
    ("sink-down", "Sink is down", "twin_engine_sink_down", 0, "1m", "warning",
     "{{ $$labels.instance }} waits for its sink. Nothing is lost while Kafka keeps the updates: see `retention`."),
    ("worker-down", "Worker or delivery is away", "1 - up", 0, "1m", "critical", "{{ $$labels.instance }} does not answer Prometheus."),
    ("dead-letters", "Messages are refused", f"sum by (twin, reason) (increase(twin_engine_rejects_total[{MINUTES}m]))", 0, "0s", "warning",
     "Messages of {{ $$labels.twin }} cannot be read ({{ $$labels.reason }}): `twin-engine dead` shows them."),
    ("restarts", "Worker begins again and again", "increase(twin_engine_restarts_total[15m])", 3, "0s", "warning",
     "{{ $$labels.instance }} has begun again from its snapshots more than three times in 15 minutes."),
    ("unsaved", "Partition is not saved", "twin_engine_snapshot_age_seconds", 300, "1m", "critical",
     "Partition {{ $$labels.partition }} of {{ $$labels.twin }} has no snapshot of the last five minutes."),
    ("partition-lag", "Partition lags behind", "twin_engine_latency_seconds", 60, "2m", "warning",
     "{{ $$labels.twin }} on {{ $$labels.instance }} is a minute behind what is sent."),
]  # fmt: skip
_EXPRESSION = common.DataSourceRef(type_val="__expr__", uid="__expr__")


def rule(
    key: str,
    title: str,
    query: builder.Builder[variants.Dataquery],
    above: float,
    *,
    summary: str,
    hold: str = "0s",
    severity: str = "warning",
    silent: Literal["OK", "Alerting"] = "OK",
) -> alerting.Rule:
    """Return a rule that fires for each series whose newest value is above a limit, once it has been for ``hold``.

    silent: what it means that the query gives nothing.
    """
    span = kinds.RelativeTimeRange(from_val=MINUTES * 60, to=0)
    evaluator = expr.ExprTypeThresholdConditionsEvaluator().type("gt").params([above])
    last = expr.TypeReduce().ref_id("B").datasource(_EXPRESSION).expression("A").reducer("last")
    limit = expr.TypeThreshold().ref_id("C").datasource(_EXPRESSION).expression("B")
    limit.conditions([expr.ExprTypeThresholdConditions().evaluator(evaluator)])
    found = alerting.Rule(title).uid(f"twin-{key}"[:40]).condition("C").for_val(hold).exec_err_state("Error").no_data_state(silent)
    found.labels({"severity": severity}).annotations({"summary": summary})
    for ref, model in (("A", query), ("B", last), ("C", limit)):
        place = _EXPRESSION if ref != "A" else METRICS if isinstance(query, Asked) else DATASOURCE
        found.with_query(alerting.Query(ref).datasource_uid(str(place.uid)).relative_time_range(span).model(model))
    return found


def groups(twins: Sequence[Twin]) -> dict[str, Any]:
    """Return the document: a rule on critical events for each twin, rules on the engine, and on workers and deliveries."""
    summary = "{{ $$labels.stage }} of {{ $$labels.asset }} has seen something that is rarer by far than its alarm rate."
    of_twins = [
        rule(f"critical-{twin.name}", f"Critical event: {twin.name}", Built(_critical(twin), "A"), 0, summary=summary, severity="critical")
        for twin in twins
    ]
    late = "{{ $$labels.twin }} on {{ $$labels.worker }} is behind by more than 10 s."
    refused = _figure("refused_lines").replace("\n  |> keep", "\n  |> difference(nonNegative: true)\n  |> keep")
    quiet = f"No figures have come for {MINUTES} minutes."
    kept = "Lines are in the sink's file of refused lines: look at the reasons there."
    of_engine = [
        rule("lag", "Twin lags behind", Built(_figure("lag_s"), "A"), 10, summary=late, hold="1m"),
        rule("silent", "Engine is silent", Built(_figure("updates"), "A"), NEVER, summary=quiet, severity="critical", silent="Alerting"),
        rule("refused", "Database refuses lines", Built(refused, "A"), 0, summary=kept),
    ]
    of_service = [
        rule(key, title, Asked(query, "A", ""), above, summary=summary, hold=hold, severity=severity)
        for key, title, query, above, hold, severity, summary in SERVICE
    ]
    return {"apiVersion": 1, "groups": [_group("twins", of_twins), _group("engine", of_engine), _group("service", of_service)]}


def _critical(twin: Twin) -> str:
    """Return a point of value 1 for each revision of a critical event."""
    found = points([twin.name], "exists r.kind", f"r._field == {text('severity')}", f"r._value == {text('critical')}")
    columns = ", ".join(map(text, ("_time", "_value", "asset", "stage")))
    return f"{found}\n  |> map(fn: (r) => ({{r with _value: 1.0}}))\n  |> keep(columns: [{columns}])"


def _figure(field: str) -> str:
    """Return one of the engine's figures, a series for each twin and worker."""
    columns = ", ".join(map(text, ("_time", "_value", "twin", "worker")))
    return f"{points([HEALTH], f'r._field == {text(field)}')}\n  |> keep(columns: [{columns}])"


def _group(name: str, rules: Sequence[alerting.Rule]) -> dict[str, Any]:
    """Return a group in the form of files, which name folder and group once."""
    texts: list[dict[str, Any]] = [json.loads(JSONEncoder(sort_keys=True).encode(each.build())) for each in rules]
    for each in texts:
        for key in ("folderUID", "orgID", "ruleGroup"):
            each.pop(key)
    return {"orgId": 1, "name": name, "folder": "Digital twins", "interval": "10s", "rules": texts}
