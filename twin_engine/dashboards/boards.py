"""The dashboards: the fleet, one asset of a twin, its glitchgram where its events have a frequency, the engine's health."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard

from streams.influx_points import field_of
from streams.moments import STATISTICS
from twin_engine.dashboards.flux import ASSET, HEALTH, any_of, counted, events, listed, points, text, values_of, windowed
from twin_engine.dashboards.panels import DATASOURCE, Built, lines, metrics, number, rows, scatter
from twin_engine.graph import Graph, resolve
from twin_engine.ports import BlockSpec, MarksSpec
from twin_engine.twin import Twin

LIMIT = 10  # Hz, as ``summarise_above`` of the sink: faster outputs are there as summaries
COLUMNS = ("time", "twin", "asset", "stage", "kind", "severity", "score", "p_value", "channel", "frequency", "snr", "class", "final", "id")


def uid(*words: str) -> str:
    """Return a dashboard's id: at most 40 characters."""
    return "-".join(("twin", *words))[:40]


def _board(title: str, *words: str, span: str = "now-1h") -> build.Dashboard:
    board = build.Dashboard(title).uid(uid(*words)).tags(["twin-engine"]).timezone("utc").refresh("5s").time(span, "now")
    return board.tooltip(dashboard.DashboardCursorSync.CROSSHAIR).readonly().version(1)


def _field(name: str) -> str:
    return f"r._field == {text(name)}"


def fleet(twins: Sequence[Twin]) -> build.Dashboard:
    """Return the overview of all assets of the twins."""
    names = [twin.name for twin in twins]
    board = _board("Fleet", "fleet")
    each = (
        f'{points(names)}\n  |> last()\n  |> keep(columns: ["_time", "_measurement", "asset"])\n'
        '  |> group(columns: ["_measurement", "asset"])\n  |> last(column: "_time")\n  |> group()'
    )
    ended = f"{points(names, 'exists r.kind', _field('final'))}\n  |> filter(fn: (r) => r._value)\n  |> group()"
    lag = f"{points([HEALTH], _field('lag_s'))}\n  |> group(columns: [{text('twin')}])\n  |> last()\n  |> group()\n  |> max()"
    board.with_panel(number("Twins heard of", f'{each}\n  |> unique(column: "_measurement")\n  |> count(column: "asset")'))
    board.with_panel(number("Assets heard of", f'{each}\n  |> count(column: "asset")'))
    board.with_panel(number("Events ended", f"{ended}\n  |> count()", warn=1))
    board.with_panel(number("Lag of the last", lag, unit="s", warn=10))
    last = f'{each}\n  |> rename(columns: {{_time: "last heard of", _measurement: "twin"}})'
    board.with_panel(lines("Events by asset", counted(names, "_measurement", "asset"), span=24, bars=True, label="${__field.labels.asset}"))
    board.with_panel(rows("Assets", last, span=8, link=("asset", f"/d/{uid('asset')}-${{__data.fields.twin}}?var-asset=${{__value.raw}}")))
    return board.with_panel(rows("Newest events", listed(names, COLUMNS), span=16))


def asset(graph: Graph) -> build.Dashboard:
    """Return what is kept of one asset, chosen by its name: each shown output, and its events."""
    twin = graph.twin
    board = _board(f"Asset: {twin.name}", "asset", twin.name).with_variable(_asset_variable(twin))
    board.annotation(_annotations(twin))
    board.with_panel(lines("Events by kind", counted([twin.name], "kind", "stage", conditions=[ASSET]), span=24, bars=True))
    for reference in twin.show:
        key = resolve(graph, reference)
        spec = graph.specs[key]
        if isinstance(spec, BlockSpec):
            for unit in dict.fromkeys(spec.units):
                channels = [c for c, u in zip(spec.channels, spec.units, strict=True) if u == unit]
                queries = list(_output(twin.name, key, spec, channels))
                about = f"{float(spec.rate):g} Hz" + (", summarised: least, mean and greatest value" if len(queries) > 1 else "")
                board.with_panel(lines(f"{key} [{unit}]" if len(set(spec.units)) > 1 else key, *queries, unit=unit, about=about))
    return board.with_panel(rows("Events", listed([twin.name], COLUMNS, ASSET)))


def _output(twin: str, key: str, spec: BlockSpec, channels: Sequence[str]) -> Iterator[str]:
    """Yield the queries of an output's channels: one in full, or one for each statistic of a summary."""
    stage, dot, port = key.partition(".")
    place = f"r.stage == {text(stage)} and r.port == {text(port)}" if dot else f"r.stream == {text(key)}"
    if spec.rate <= LIMIT:
        yield windowed(points([twin], place, ASSET, any_of("_field", [field_of(c) for c in channels])), "mean", "_field")
    else:
        for statistic in [s for s in STATISTICS if s != "rms"]:
            yield windowed(points([twin], place, ASSET, any_of("_field", [f"{c}_{statistic}" for c in channels])), statistic, "_field")


def _asset_variable(twin: Twin) -> build.QueryVariable:
    query = values_of(twin.name, "asset")
    variable = build.QueryVariable("asset").label("Asset").datasource(DATASOURCE).query({"query": query, "refId": "asset"})
    return variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)


def _annotations(twin: Twin) -> build.AnnotationQuery:
    columns = ", ".join(map(text, ("_time", "kind", "stage", "severity")))
    target = Built(f"{events([twin.name], ASSET)}\n  |> keep(columns: [{columns}])", "events")
    return build.AnnotationQuery().name("Events").datasource(DATASOURCE).enable(enable=True).icon_color("red").target(target)


def transients(graph: Graph) -> Iterator[str]:
    """Yield the stages whose events have a frequency and a signal-to-noise ratio."""
    for node in graph.nodes:
        for spec in node.op.outputs.values():
            if isinstance(spec, MarksSpec) and spec.events and {"frequency", "snr"} <= set(spec.columns):
                yield node.name


def glitchgram(graph: Graph) -> build.Dashboard:
    """Return the transients of one asset in time and frequency, as in Omicron's pages: the louder, the larger and the redder."""
    twin, stages = graph.twin, any_of("stage", list(transients(graph)))
    found = f"{events([twin.name], stages, ASSET)}\n  |> filter(fn: (r) => exists r.snr and exists r.frequency)"
    shown = f'{found}\n  |> rename(columns: {{_time: "time"}})\n  |> keep(columns: ["time", "frequency", "snr", "bandwidth", "class"])'
    loudest = f'{shown}\n  |> sort(columns: ["snr"], desc: true)\n  |> limit(n: 50)'
    board = _board(f"Glitchgram: {twin.name}", "glitchgram", twin.name).with_variable(_asset_variable(twin))
    about = "Each transient at its time and frequency; size and colour are its signal-to-noise ratio."
    board.with_panel(
        scatter("Glitchgram", shown, ("time", "frequency", "snr", "snr"), labels=("Time (UTC)", "Frequency (Hz)"), about=about)
    )
    board.with_panel(scatter("SNR", shown, ("time", "snr", "frequency", "snr"), labels=("Time (UTC)", "Signal-to-noise ratio")))
    board.with_panel(lines("Glitches", counted([twin.name], "stage", conditions=[stages, ASSET]), bars=True))
    for key in [resolve(graph, reference) for reference in twin.show]:
        spec = graph.specs[key]
        if isinstance(spec, BlockSpec) and spec.rate > LIMIT and len(spec.channels) == 1:
            stage, dot, port = key.partition(".")
            place = f"r.stage == {text(stage)} and r.port == {text(port)}" if dot else f"r.stream == {text(key)}"
            root = points([twin.name], place, ASSET, any_of("_field", [f"{spec.channels[0]}_rms"]))
            board.with_panel(lines(f"RMS of {key}", windowed(root, "mean", "_field"), unit=spec.units[0]))
    return board.with_panel(rows("Loudest", loudest, span=24))


def health() -> build.Dashboard:
    """Return the engine's own figures."""
    own = "${__field.labels.twin} ${__field.labels._field}"

    def newest(field: str) -> str:
        return windowed(points([HEALTH], _field(field)), "last", "twin", "worker")

    def rate(*fields: str) -> str:
        source = points([HEALTH], any_of("_field", fields))
        return windowed(f"{source}\n  |> derivative(unit: 1s, nonNegative: true)", "mean", "_field", "twin", "worker")

    def matching(pattern: str) -> str:
        return windowed(points([HEALTH], f"r._field =~ /{pattern}/"), "last", "_field", "twin", "worker")

    board = _board("Engine health", "health", span="now-30m")
    board.with_panel(number("Lag", newest("lag_s"), unit="s", warn=10, about="Of the newest event time behind the clock."))
    board.with_panel(number("Latency", newest("latency_s"), unit="s", warn=2, about="From arrival to the database."))
    board.with_panel(number("Lines refused", newest("refused_lines"), warn=1, about="By the database, kept in the sink's file."))
    board.with_panel(number("Snapshot age", newest("snapshot_age_s"), unit="s", warn=60))
    board.with_panel(lines("Lag and latency", matching("^(lag|latency)_s$"), unit="s", label=own))
    board.with_panel(lines("Rates", rate("samples", "updates", "lines", "events"), unit="1/s", label=own))
    board.with_panel(lines("Dropped and rejected, by reason", matching("^(dropped|rejected)_"), label=own))
    return board.with_panel(lines("Snapshot age", matching("^snapshot_age_s$"), unit="s", label=own))


def service() -> build.Dashboard:
    """Return the figures of workers and deliveries, as ``/metrics`` has them."""

    def rate(*names: str) -> list[tuple[str, str]]:
        return [(f"sum(rate(twin_engine_{name}_total[1m]))", name) for name in names]

    board = _board("Service", "service", span="now-30m")
    behind, age = "sum by (partition) (twin_engine_lag_records)", "max by (partition) (twin_engine_snapshot_age_seconds)"
    left = (behind, "partition {{partition}}"), ("sum by (job, instance) (twin_engine_sink_behind)", "{{job}} {{instance}}")
    board.with_panel(metrics("Behind", *left, about="Records of the input left in each partition; messages that a sink has not taken."))
    latency = ("max(twin_engine_latency_seconds)", "worker"), ("max by (job) (twin_engine_delivery_latency_seconds)", "{{job}}")
    board.with_panel(metrics("Latency", *latency, unit="s", about="From the broker's time to the outputs being sent; to the sink's word."))
    board.with_panel(metrics("Rates", *rate("records", "samples", "updates", "delivered_updates"), unit="1/s"))
    spent = "sum by (hop) (rate(twin_engine_hop_seconds_total[1m])) / on () group_left () sum(rate(twin_engine_batches_total[1m]))"
    board.with_panel(metrics("Time of a batch, by hop", (spent, "{{hop}}"), unit="s"))
    board.with_panel(metrics("Rejects", ("sum by (reason) (rate(twin_engine_rejects_total[5m]))", "{{reason}}"), unit="1/s"))
    board.with_panel(metrics("Snapshot age", (age, "partition {{partition}}"), unit="s"))
    failures = [(f"sum(increase(twin_engine_{name}_total[5m]))", f"{name} in 5 min") for name in ("restarts", "fenced", "sink_failures")]
    board.with_panel(metrics("What failed", *failures, ("sum by (job) (twin_engine_sink_down)", "sink down: {{job}}")))
    return board.with_panel(metrics("Memory", ("process_resident_memory_bytes", "{{job}} {{instance}}"), unit="B"))
