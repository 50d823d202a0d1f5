"""Panels of Grafana with Flux behind them, by Grafana's own builders (``grafana-foundation-sdk``)."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, stat, table, timeseries, xychart
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models import xychart as xy

DATASOURCE = kinds.DataSourceRef(type_val="influxdb", uid="twin-engine-influxdb")
METRICS = kinds.DataSourceRef(type_val="prometheus", uid="twin-engine-prometheus")
#: Grafana's names of units; see @grafana/data, valueFormats
UNITS = {
    "1": "none", "s": "s", "Hz": "hertz", "V": "volt", "A": "amp", "W": "watt", "kW": "kwatt", "degC": "celsius", "K": "kelvin",
    "Pa": "pressurepa", "hPa": "pressurehpa", "m/s": "velocityms", "B/s": "Bps", "rpm": "rotrpm", "deg": "degree", "percent": "percent",
    "m": "lengthm", "N": "forceN", "g": "massg", "kg": "masskg", "lx": "lux", "B": "bytes",
}  # fmt: skip


class Flux(variants.Dataquery):
    """A query of the InfluxDB data source: the JSON of Grafana's ``InfluxQuery`` in its Flux mode."""

    def __init__(self, query: str, ref: str) -> None:
        self.query, self.ref = query, ref

    def to_json(self) -> dict[str, object]:
        """Return what Grafana stores."""
        return {"refId": self.ref, "datasource": DATASOURCE, "query": self.query}


class PromQL(variants.Dataquery):
    """A query of the Prometheus data source. label: the name of each series, ``{{partition}}``."""

    def __init__(self, query: str, ref: str, label: str) -> None:
        self.query, self.ref, self.label = query, ref, label

    def to_json(self) -> dict[str, object]:
        """Return what Grafana stores."""
        return {"refId": self.ref, "datasource": METRICS, "expr": self.query, "legendFormat": self.label}


class Asked(builder.Builder[variants.Dataquery]):
    """A query of Prometheus, as panels want it."""

    def __init__(self, query: str, ref: str, label: str) -> None:
        self._query = PromQL(query, ref, label)

    def build(self) -> PromQL:
        """Return the query."""
        return self._query


class Built(builder.Builder[variants.Dataquery]):
    """A query, as panels want it."""

    def __init__(self, query: str, ref: str) -> None:
        self._query = Flux(query, ref)

    def build(self) -> Flux:
        """Return the query."""
        return self._query


def targets(*queries: str) -> list[builder.Builder[variants.Dataquery]]:
    """Return queries A, B, C ..."""
    return [Built(query, chr(ord("A") + i)) for i, query in enumerate(queries)]


def lines(
    title: str, *queries: str, unit: str = "1", about: str = "", span: int = 12, label: str = "", bars: bool = False
) -> timeseries.Panel:
    """Return series over time. unit: as in channels. label: the name of each, ``${__field.labels.asset}``."""
    panel = timeseries.Panel().title(title).description(about).datasource(DATASOURCE).targets(targets(*queries))
    panel.unit(UNITS.get(unit, f"suffix: {unit}")).span(span).height(8).line_width(1)
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    if bars:
        panel.draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(60).stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    return panel.display_name(label) if label else panel


def metrics(title: str, *queries: tuple[str, str], unit: str = "1", about: str = "") -> timeseries.Panel:
    """Return figures of Prometheus over time: queries, each with the name of its series."""
    asked: list[builder.Builder[variants.Dataquery]] = [Asked(query, chr(ord("A") + i), label) for i, (query, label) in enumerate(queries)]
    return lines(title, unit=unit, about=about).datasource(METRICS).targets(asked)


def number(title: str, query: str, *, unit: str = "1", about: str = "", warn: float | None = None) -> stat.Panel:
    """Return the newest value of each series, red above ``warn``."""
    steps = [dashboard.Threshold(value=None, color="green")]
    if warn is not None:
        steps.append(dashboard.Threshold(value=warn, color="red"))
    limits = build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
    panel = stat.Panel().title(title).description(about).datasource(DATASOURCE).targets(targets(query)).thresholds(limits)
    return (
        panel.unit(UNITS.get(unit, f"suffix: {unit}")).span(6).height(4).reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )


def rows(title: str, query: str, *, about: str = "", span: int = 24, link: tuple[str, str] | None = None) -> table.Panel:
    """Return a table. link: a column, and the address that its cells lead to."""
    panel = table.Panel().title(title).description(about).datasource(DATASOURCE).targets(targets(query)).span(span).height(9)
    if link:
        column, url = link
        to = {"title": "Look at it", "url": url}
        panel.override_by_name(column, [dashboard.DynamicConfigValue(id_val="links", value=[to])])
    return panel


def scatter(title: str, query: str, axes: Sequence[str], *, labels: Sequence[str], about: str = "", log: bool = True) -> xychart.Panel:
    """Return a point for each row. axes: columns for x, y, colour and size. labels: of x and y. log: whether y is logarithmic."""
    x, y, color, size = (xychart.MatcherConfig().id("byName").options(name) for name in axes)
    series = xychart.XYSeriesConfig()
    series.x(xychart.XychartXYSeriesConfigX().matcher(x)).y(xychart.XychartXYSeriesConfigY().matcher(y))
    series.color(xychart.XychartXYSeriesConfigColor().matcher(color)).size(xychart.XychartXYSeriesConfigSize().matcher(size))
    panel = xychart.Panel().title(title).description(about).datasource(DATASOURCE).targets(targets(query)).span(24).height(12)
    panel.mapping(xy.SeriesMapping.MANUAL).series([series]).show(xy.XYShowMode.POINTS).fill_opacity(60)
    panel.point_size(xychart.XychartFieldConfigPointSize().min(4).max(24))
    panel.legend(common.VizLegendOptions().show_legend(show_legend=False)).tooltip(
        common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.SINGLE)
    )
    panel.override_by_name(axes[0], [dashboard.DynamicConfigValue("custom.axisLabel", labels[0])])
    scale = {"type": "log", "log": 2} if log else {"type": "linear"}
    shown = [dashboard.DynamicConfigValue("custom.axisLabel", labels[1]), dashboard.DynamicConfigValue("custom.scaleDistribution", scale)]
    panel.override_by_name(axes[1], shown)
    panel.override_by_name(axes[2], [dashboard.DynamicConfigValue("color", {"mode": "continuous-YlRd"})])
    return panel
