"""What stands in deploy/: it names files, settings and metrics that are there."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml

import serve.realtime.metrics
from serve.cli import app
from serve.realtime import exposition
from serve.web import read_settings
from tests.paths import ROOT

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "omni"
KEY = "auth.apiKey=correct-horse"
ALL = "ingress.enabled=true,ingress.host=a.example,ingress.tlsSecret=tls,autoscaling.enabled=true,"
ALL += "podDisruptionBudget.enabled=true,serviceMonitor.enabled=true,server.replicas=2"
needs_helm = pytest.mark.skipif(shutil.which("helm") is None, reason="helm: see make chart-test")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def flags_of_run() -> set[str]:
    command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    return {name for parameter in command.params for name in parameter.opts}


# Metrics


def told_metrics() -> set[str]:
    """As /metrics names them, with the suffixes of counters and histograms."""
    found: set[str] = set()
    for line in exposition().decode().splitlines():
        if kind := re.match(r"# TYPE (omni_\w+) (\w+)", line):
            suffixes = ("_bucket", "_count", "_sum") if kind[2] == "histogram" else ("",)
            found |= {kind[1] + suffix for suffix in suffixes}
    return found


def test_the_dashboard_shows_metrics_that_are_there_and_all_of_the_protocols() -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown = set(re.findall(r"omni_\w+", " ".join(asked)))
    assert shown <= told_metrics()
    own = {
        value._name for value in vars(serve.realtime.metrics).values() if hasattr(value, "_name")
    }
    assert {name for name in own if not any(one.startswith(name) for one in shown)} == set()
    assert board["uid"] and len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_dashboard_counts_the_restart_of_a_lone_server() -> None:
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    (starts,) = [panel for panel in board["panels"] if panel["title"] == "Starts"]
    (asked,) = [target["expr"] for target in starts["targets"]]
    # Its counter is 1 again, which is no increase; but it was made at another time. Replicas share
    # a counter that goes on, and nothing tells when that was made.
    assert "increase(omni_starts_total" in asked and "changes(omni_starts_created" in asked


# Docker


def test_the_image_is_given_what_it_copies_and_what_a_build_needs() -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied: set[str] = set()
    for line in (DEPLOY / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == kept and all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text()
    for package in re.findall(r'"(\w+)"', re.findall(r"^packages = (.*)$", project, re.M)[0]):
        assert package in copied


def test_the_image_serves_with_a_command_that_there_is() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.M)
    name, *options = json.loads(command)
    assert name == "run" and {one for one in options if one.startswith("--")} <= flags_of_run()


def test_compose_names_files_and_flags_that_are_there() -> None:
    compose = read(DEPLOY / "compose.yaml")
    services = compose["services"]
    options = {one for one in services["server"]["command"] if one.startswith("--")}
    assert options <= flags_of_run()
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists(), source
    assert set(read(DEPLOY / "compose.gpu.yaml")["services"]) <= set(services)


def test_prometheus_and_grafana_find_each_other_and_the_server() -> None:
    compose = read(DEPLOY / "compose.yaml")
    (job,) = read(DEPLOY / "prometheus.yaml")["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["server:8000"]}]
    secret = Path(job["authorization"]["credentials_file"]).name
    assert secret in compose["secrets"]
    assert compose["secrets"][secret]["environment"] == "OMNI_API_KEY"
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = read(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
    (boards,) = read(provisioning / "dashboards" / "omni.yaml")["providers"]
    mounts = " ".join(compose["services"]["grafana"]["volumes"])
    assert boards["options"]["path"] + "/omni.json" in mounts


# The chart


@cache
def schema() -> dict[str, Any]:
    return json.loads((CHART / "values.schema.json").read_text())


def test_the_charts_values_are_as_its_schema_says() -> None:
    jsonschema.Draft7Validator.check_schema(schema())
    values = read(CHART / "values.yaml")
    jsonschema.validate(values, schema())
    assert set(values) == schema()["properties"].keys() - {"global"}
    for part in ("image", "server", "auth", "service", "ingress", "autoscaling"):
        assert set(values[part]) == set(schema()["properties"][part]["properties"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicaCount": -1},
        {"repliCaCount": 1},
        {"auth": {"apiKey": "short"}},
        {"server": {"checkpoint": "nano", "drainSeconds": 1, "settings": {"api_keys": ["a"]}}},
    ],
)
def test_values_that_would_not_run_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(CHART / "values.yaml") | wrong, schema())


def test_every_value_that_a_template_asks_for_is_there_and_every_one_is_asked_for() -> None:
    text = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    asked = set(re.findall(r"\.Values\.([A-Za-z.]+)", text))
    values = read(CHART / "values.yaml")
    for path in asked:
        place: Any = values
        for name in path.split("."):
            assert name in place, path
            place = place[name]
    assert set(values) == {path.split(".")[0] for path in asked}


def rendered(*options: str) -> list[dict[str, Any]]:
    told = subprocess.run(
        ["helm", "template", "talk", str(CHART), "--set", KEY, *options],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [one for one in yaml.safe_load_all(told.stdout) if one]


@needs_helm
def test_the_chart_lints() -> None:
    done = subprocess.run(
        ["helm", "lint", "--strict", str(CHART), "--set", f"{KEY},{ALL}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@needs_helm
def test_a_release_is_probed_drained_and_given_settings_that_the_server_takes(
    tmp_path: Path,
) -> None:
    objects = {one["kind"]: one for one in rendered("--set", ALL)}
    assert len(objects) == 8
    settings = tmp_path / "serve.yaml"
    settings.write_text(objects["ConfigMap"]["data"]["serve.yaml"])
    taken = read_settings(settings, {"api_keys": ["correct-horse"]})
    assert (taken.drain_s, taken.replicas) == (300, 2)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] > taken.drain_s
    assert server["livenessProbe"]["httpGet"]["path"] == "/health"
    assert server["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert "preStop" in server["lifecycle"] and pod["securityContext"]["runAsNonRoot"]
    assert server["args"][0] == "run" and "--config" in flags_of_run()


@needs_helm
def test_without_a_key_or_a_secret_there_is_no_release() -> None:
    done = subprocess.run(
        ["helm", "template", "talk", str(CHART)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "auth.apiKey" in done.stderr
    assert "Deployment" in {one["kind"] for one in rendered()}
    assert "HorizontalPodAutoscaler" not in {one["kind"] for one in rendered()}
