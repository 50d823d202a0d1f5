"""Grafana's provisioning: up to date, of the right shape, and each query answered by an InfluxDB that the engine has filled."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams import open_sink, open_source
from tests.influx_server import Influx
from tests.system import grafana_schema
from twin_engine.cli import main
from twin_engine.loader import catalogue, load
from twin_engine.run import Run

pytest.importorskip("grafana_foundation_sdk", reason="Grafana's builders are not installed")

from grafana_foundation_sdk.models.dashboard import Dashboard

from twin_engine.dashboards.alerts import SERVICE
from twin_engine.dashboards.provisioning import files

GRAFANA = Path(__file__).parents[2] / "compose" / "grafana"
ASSETS = {"host": "machine 1", "interferometer": "V1"}
OLD = {"auto", "auto_count", "auto_min", "footer"}  # what the model adds and Grafana 13 no longer has
SOURCES = {
    "host": "sim:?seed=1&duration=3600&faults=runaway@3000:200",
    "interferometer": "sim:?seed=3&duration=60&glitches=20&snr=15&witnesses=0",
}


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return files([load(name) for name in sorted(catalogue())])


def test_what_is_checked_in_is_what_the_command_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["twin-engine", "dashboards", "--to", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    kept, new = ({p.relative_to(d).as_posix(): p.read_text() for p in d.rglob("*.*")} for d in (GRAFANA, tmp_path))
    assert kept == new, "run: twin-engine dashboards --to compose/grafana"


def test_dashboards_hold_what_grafana_knows_and_nothing_else(made: dict[str, str]) -> None:
    """Read by Grafana's own model of a dashboard and written again, nothing is lost: every key is one that it knows."""
    for name, text in made.items():
        if not name.endswith(".json"):
            continue
        board = json.loads(text)
        assert board["schemaVersion"] >= 39
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"])
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        cells: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & mine
            assert at["x"] + at["w"] <= 24
            cells |= mine
        bare = _without_queries(board)
        assert _plain(Dashboard.from_json(bare)) == _plain(bare)


def _without_queries(node: Any) -> Any:
    """Return a dashboard without its queries, which are the data source's own and not in the model."""
    if isinstance(node, dict):
        return {key: _without_queries(value) for key, value in node.items() if key not in {"targets", "target"}}
    return [_without_queries(value) for value in node] if isinstance(node, list) else node


def _plain(node: Any) -> Any:
    """Return a model, or what JSON gave, as JSON without what is null."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(inner) for key, inner in value.items() if inner is not None and key not in OLD}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    return bare(json.loads(JSONEncoder().encode(node)))


def test_dashboards_are_of_grafanas_published_types(made: dict[str, str], tmp_path: Path) -> None:
    folder = grafana_schema.packages(tmp_path)
    boards = {name: json.loads(text) for name, text in made.items() if name.endswith(".json")}
    assert not grafana_schema.complaints(folder, grafana_schema.program(boards))
    wrong = {str(i): json.loads(next(text for name, text in made.items() if name.endswith("fleet.json"))) for i in range(3)}
    wrong["0"]["panels"][0]["tranparent"] = True
    wrong["1"]["graphTooltip"] = "crosshair"
    wrong["2"]["panels"][4]["options"]["legend"]["displayMode"] = "lst"
    told = grafana_schema.complaints(folder, grafana_schema.program(wrong)).splitlines()
    expected = ("tranparent", "tranparent", "'string' is not assignable to type 'DashboardCursorSync", '"lst"')
    assert [word in line for word, line in zip(expected, told, strict=False)] == [True] * 4, told


def test_provisioning_is_yaml_of_the_documented_shape(made: dict[str, str]) -> None:
    """Shapes as in Grafana's documentation of file provisioning; secrets come from the environment."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    source = yaml.safe_load(made["provisioning/datasources/influxdb.yaml"])["datasources"][0]
    assert source["secureJsonData"] == {"token": "$INFLUX_TOKEN"}
    assert source["jsonData"]["version"] == "Flux"
    provider = yaml.safe_load(made["provisioning/dashboards/twins.yaml"])["providers"][0]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
    uids: list[str] = []
    for group in yaml.safe_load(made["provisioning/alerting/rules.yaml"])["groups"]:
        assert group.keys() == {"orgId", "name", "folder", "interval", "rules"}
        for rule in group["rules"]:
            allowed = {"uid", "title", "condition", "data", "for", "annotations", "labels", "noDataState", "execErrState"}
            assert rule.keys() == allowed
            refs = [query["refId"] for query in rule["data"]]
            assert rule["condition"] in refs
            asked = "twin-engine-prometheus" if group["name"] == "service" else source["uid"]
            assert [query["datasourceUid"] for query in rule["data"]] == [asked, "__expr__", "__expr__"]
            assert {query["model"]["refId"] for query in rule["data"]} == set(refs)
            uids.append(rule["uid"])
    assert len(set(uids)) == len(uids)


class Stutter:
    """A simulator whose first reading comes twice, so that something is dropped."""

    live = False

    def __init__(self, uri: str, name: str) -> None:
        self._source = open_source(uri, twin=load(name), asset=ASSETS[name])
        self.acknowledge, self.close = self._source.acknowledge, self._source.close

    def items(self, position: Any) -> Iterator[Any]:
        for i, item in enumerate(self._source.items(position)):
            yield from [item] * (2 if i == 0 else 1)


@pytest.fixture(scope="module")
def filled(influx: Influx, tmp_path_factory: pytest.TempPathFactory) -> Influx:
    """Return a bucket that runs of the engine have written to."""
    folder = tmp_path_factory.mktemp("dashboards")
    bucket = influx.fresh(f"dashboards-{secrets.token_hex(4)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFLUX_TOKEN", bucket.token)
        for name, uri in SOURCES.items():
            twin = load(name)
            sink = open_sink(f"influx:{bucket.url}/{bucket.bucket}?org={bucket.org}&refused={folder}/refused.jsonl", show=tuple(twin.show))
            Run(twin, Stutter(uri, name), [sink], assets=[ASSETS[name]], state_dir=folder / name, snapshot_every=0.1)()
    assert not (folder / "refused.jsonl").exists()
    return bucket


def _answers(at: Influx, query: str, twin: str, window: str = "10s") -> list[dict[str, str]]:
    """Return the rows of a query as Grafana would run it, with the dashboard's asset chosen and all times within its range."""
    span = "timeRangeStart: 2020-01-01T00:00:00Z, timeRangeStop: 2040-01-01T00:00:00Z"
    options = f'option v = {{defaultBucket: "{at.bucket}", {span}, windowPeriod: {window}}}'
    query = query.replace("${asset}", ASSETS.get(twin, "")).replace("start: -30d", "start: 2020-01-01T00:00:00Z")
    imports, body = re.match(r'((?:import "[^"]*"\n)*)(.*)', query, re.DOTALL).groups()
    return at.query(f"{imports}{options}\n{body}")


@pytest.mark.parametrize("twin", [*SOURCES, ""])
def test_each_query_is_answered(filled: Influx, twin: str) -> None:
    made = files([load(name) for name in SOURCES])
    silent: list[str] = []
    asked = 0
    for name, text in made.items():
        if not name.endswith(".json") or (next((t for t in SOURCES if name.endswith(f"-{t}.json")), "") != twin):
            continue
        board = json.loads(text)
        if name.endswith("service.json"):
            continue  # Prometheus answers it
        queries = [(panel["title"], target["query"]) for panel in board["panels"] for target in panel["targets"]]
        queries += [(f"variable {v['name']}", v["query"]["query"]) for v in board.get("templating", {}).get("list", [])]
        queries += [
            (f"annotation {a['name']}", a["target"]["query"]) for a in board.get("annotations", {}).get("list", []) if "target" in a
        ]
        asked += len(queries)
        silent += [f"{name}: {title}" for title, query in queries if not _answers(filled, query, twin)]
    assert asked
    assert not silent


def test_the_service_board_asks_for_what_workers_and_deliveries_tell(made: dict[str, str]) -> None:
    pytest.importorskip("aiokafka")
    from streams.kafka.client import Kafka
    from streams.kafka.updates import Updates
    from twin_engine.delivery import Delivery
    from twin_engine.testing.fakes import ListSink
    from twin_engine.worker import Worker, WorkerConfig

    board = json.loads(made["dashboards/twin-service.json"])
    targets = [target for panel in board["panels"] for target in panel["targets"]]
    assert {target["datasource"]["uid"] for target in targets} == {"twin-engine-prometheus"}
    queries = [target["expr"] for target in targets] + [query for _, _, query, *_ in SERVICE]
    asked = {name for query in queries for name in re.findall(r"twin_engine_\w+|process_\w+", query)}
    kafka = Kafka("127.0.0.1:1")
    worker = Worker(load("host"), kafka, WorkerConfig("a", "a.in", ["x"]), lambda: pytest.fail("not run"))
    jobs = worker, Delivery(Updates(kafka, "a", "a"), ListSink())
    told = {f"twin_engine_{figure[0]}" for job in jobs for figure in job.figures()}
    some = "lag_records", "snapshot_age_seconds", "rejects_total", "sink_behind"  # once there are partitions
    of_partitions = {f"twin_engine_{name}" for name in some}
    assert asked <= told | of_partitions | {"process_resident_memory_bytes"}
    assert of_partitions <= asked


def test_the_glitchgram_shows_the_events(filled: Influx) -> None:
    board = json.loads(files([load("interferometer")])["dashboards/twin-glitchgram-interferometer.json"])
    panel = board["panels"][0]
    assert panel["type"] == "xychart"
    found = _answers(filled, panel["targets"][0]["query"], "interferometer")
    series = panel["options"]["series"][0]
    columns = [series[axis]["matcher"]["options"] for axis in ("x", "y", "color", "size")]
    assert columns == ["time", "frequency", "snr", "snr"]
    assert len(found) >= 5
    assert all(float(row["frequency"]) > 20 and float(row["snr"]) > 5 for row in found)


def test_alert_rules_are_answered_with_numbers(filled: Influx) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    rules = yaml.safe_load(files([load("interferometer")])["provisioning/alerting/rules.yaml"])
    for group in rules["groups"]:
        for rule in group["rules"] if group["name"] != "service" else ():
            found = _answers(filled, rule["data"][0]["model"]["query"], "interferometer")
            assert found, rule["title"]
            assert all(float(row["_value"]) >= 0 for row in found)
