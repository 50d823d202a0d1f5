"""What is deployed: pinned images, loopback ports, health checks, no password in a file, commands and settings that the engine takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from compose.credentials import USERS
from compose.services import influx, kafka, mosquitto
from streams.mqtt_address import parse_broker
from streams.registry import SOURCES
from streams.uri import parse
from twin_engine.cli import app
from twin_engine.config import Config, read_config
from twin_engine.errors import InputError
from twin_engine.loader import load

COMPOSE = Path(__file__).parents[2] / "compose"
SERVICES: dict[str, Any] = yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())["services"]
RUNNING = {name: service for name, service in SERVICES.items() if name != "credentials"}
OURS = {name: service for name, service in RUNNING.items() if service["image"] == "twin-engine:local"}
MANIFESTS: list[dict[str, Any]] = [
    document for path in sorted((COMPOSE / "kubernetes").rglob("*.yaml")) for document in yaml.safe_load_all(path.read_text())
]
PODS = {m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in MANIFESTS if m["kind"] in {"StatefulSet", "Deployment"}}
VERSION = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")


def _commands_are_known(arguments: list[str], config: Config) -> None:
    command, path, *rest = arguments
    assert command in typer.main.get_group(app).commands
    assert path == "/etc/twin-engine/service.toml"
    options = dict(word.split("=", 1) for word in rest if word.startswith("--"))
    known = {option for parameter in typer.main.get_group(app).commands[command].params for option in parameter.opts}
    assert set(options) <= known
    if "--from" in options:
        parse_broker(parse(options["--from"].partition("?")[0], SOURCES, {}, InputError))  # its files are not here
    assert {word for word in rest if not word.startswith("--")} <= set(config.sinks)


@pytest.mark.parametrize("name", RUNNING)
def test_images_are_pinned(name: str) -> None:
    image = RUNNING[name]["image"]
    assert VERSION.fullmatch(image) or image == "twin-engine:local"


def test_the_images_bases_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)
    assert bases
    assert all(VERSION.fullmatch(base) for base in bases)


def test_tests_and_deployment_use_the_same_servers() -> None:
    assert SERVICES["kafka"]["image"] == kafka.IMAGE
    assert SERVICES["mosquitto"]["image"] == mosquitto.IMAGE
    assert SERVICES["influxdb"]["image"] == influx.IMAGE


@pytest.mark.parametrize("name", RUNNING)
def test_ports_are_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in RUNNING[name].get("ports", []))
    assert RUNNING[name].get("network_mode") != "host"


@pytest.mark.parametrize("name", [name for name in RUNNING if "fleet" not in name])  # they stand for sensors
def test_health_is_checked(name: str) -> None:
    assert RUNNING[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "prometheus"])  # it needs none
def test_secrets_come_from_volumes_and_each_container_has_its_own(name: str) -> None:
    secret = {key: value for key, value in RUNNING[name].get("environment", {}).items() if re.search("PASSWORD|TOKEN|SECRET", key)}
    assert all(value.startswith("/credentials/") for value in secret.values())
    mounts = [volume for volume in RUNNING[name].get("volumes", []) if ":/credentials" in volume]
    assert len(mounts) == 1
    assert mounts[0].endswith(":/credentials:ro")
    made = [volume.partition(":")[0].removeprefix("credentials-") for volume in SERVICES["credentials"]["volumes"]]
    assert sorted(made) == sorted(USERS)
    assert mounts[0].partition(":")[0].removeprefix("credentials-") in made
    assert not any("authority:" in volume for volume in RUNNING[name]["volumes"])


@pytest.mark.parametrize("name", OURS)
def test_the_engine_runs_without_rights(name: str) -> None:
    service = OURS[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service.get("user", "engine") != "0:0"


def test_the_configuration_and_the_commands_are_the_engines() -> None:
    config = read_config(COMPOSE / "service.toml")
    load(config.twin)
    for name in ("worker", "sink"):
        _commands_are_known(SERVICES[name]["command"], config)
    assert str(config.metrics.port) in SERVICES["worker"]["healthcheck"]["test"][-1]


def test_kubernetes_runs_the_same_commands_on_a_valid_configuration(tmp_path: Path) -> None:
    (service,) = [m["data"]["service.toml"] for m in MANIFESTS if m["kind"] == "ConfigMap"]
    (tmp_path / "service.toml").write_text(service)
    config = read_config(tmp_path / "service.toml")
    (workers,) = [m for m in MANIFESTS if m["kind"] == "StatefulSet" and m["metadata"]["name"] == "worker"]
    assert config.input.partitions >= workers["spec"]["replicas"]
    for pod in PODS.values():
        _commands_are_known(pod["containers"][0]["args"], config)


def test_prometheus_asks_workers_and_deliveries_where_they_answer() -> None:
    asked = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    assert {job["job_name"] for job in asked} == {"worker", "sink", "edge"}
    for job in asked:
        (where,) = job["dns_sd_configs"]
        assert where["names"] == [job["job_name"]]
        file = "edge.toml" if job["job_name"] == "edge" else "service.toml"
        assert where["port"] == read_config(COMPOSE / file).metrics.port
        assert SERVICES[job["job_name"]]["environment"] == {"TWIN_ENGINE__METRICS__HOST": "0.0.0.0"}  # noqa: S104 - of a container
        assert "ports" not in SERVICES[job["job_name"]]
    source = yaml.safe_load((COMPOSE / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    assert source["url"].removeprefix("$") in SERVICES["grafana"]["environment"]
    assert "ports" not in SERVICES["prometheus"]


def test_the_place_of_a_sink_outlives_its_container() -> None:
    state = read_config(COMPOSE / "service.toml").sinks["influx"].state
    assert state is not None
    assert state.parent == Path("/var/lib/twin-engine")
    (volume,) = [v.partition(":")[0] for v in SERVICES["sink"]["volumes"] if v.endswith(f":{state.parent}")]
    assert volume in yaml.safe_load((COMPOSE / "docker-compose.yml").read_text())["volumes"]
    assert not any(str(state.parent) in v for v in SERVICES["worker"]["volumes"])
    (sink,) = [m for m in MANIFESTS if m["kind"] == "StatefulSet" and m["metadata"]["name"] == "sink-influx"]
    (claim,) = sink["spec"]["volumeClaimTemplates"]
    mounts = {mount["name"]: mount["mountPath"] for mount in sink["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts[claim["metadata"]["name"]] == str(state.parent)
    assert f'state = "{state}"' in next(m["data"]["service.toml"] for m in MANIFESTS if m["kind"] == "ConfigMap")


@pytest.mark.parametrize("name", PODS)
def test_pods_are_checked_and_without_rights(name: str) -> None:
    pod = PODS[name]
    container = pod["containers"][0]
    assert {"livenessProbe", "readinessProbe", "resources"} <= set(container)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == USERS["engine"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    variables = {entry["name"] for entry in container["env"]}
    assert variables <= {f"TWIN_ENGINE__{section.upper()}__{key.upper()}" for section in ("worker", "metrics") for key in _keys(section)}


def _keys(section: str) -> set[str]:
    return set(type(getattr(read_config(COMPOSE / "service.toml"), section)).model_fields)


def test_kubernetes_holds_no_secret_and_lists_every_file() -> None:
    assert not any(m["kind"] == "Secret" for m in MANIFESTS)
    (kustomization,) = [m for m in MANIFESTS if m["kind"] == "Kustomization"]
    files = {path.name for path in (COMPOSE / "kubernetes").glob("*.yaml")}
    assert files == {*kustomization["resources"], "kustomization.yaml"}
    (component,) = [m for m in MANIFESTS if m["kind"] == "Component"]
    assert {path.name for path in (COMPOSE / "kubernetes" / "bridge").iterdir()} == {*component["resources"], "kustomization.yaml"}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", image["newTag"]) for image in kustomization["images"])
