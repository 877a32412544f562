"""The chart renders what Kubernetes accepts, what the broker reads, and nothing that is unsafe."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config.model import Configuration
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "dataverse-token-broker"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
CASES: list[tuple[str, ...]] = [(), *(("--values", str(path)) for path in VALUES)]
NAMES = ["defaults", *(path.stem for path in VALUES)]

OTHERS = {"ServiceMonitor"}
"""Kinds that Kubernetes itself does not define, so that nothing here knows their schema."""

Tool = Callable[[str], Path]
Rendered = Callable[..., list[dict[str, Any]]]


def run(*command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], input=text, capture_output=True, text=True, check=False
    )


@pytest.fixture
def render(require_tool: Tool) -> Rendered:
    def objects(*arguments: str) -> list[dict[str, Any]]:
        done = run(require_tool("helm"), "template", "broker", CHART, "-n", "erp", *arguments)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return objects


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    [pod] = [each["spec"]["template"]["spec"] for each in objects if each["kind"] in WORKLOADS]
    [only] = pod["containers"]
    return {**only, "pod": pod}


WORKLOADS = {"StatefulSet", "Deployment"}


@pytest.mark.parametrize("arguments", CASES, ids=NAMES)
def test_helm_finds_nothing_to_say(arguments: tuple[str, ...], require_tool: Tool) -> None:
    done = run(require_tool("helm"), "lint", "--strict", "--quiet", CHART, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("arguments", CASES, ids=NAMES)
def test_kubernetes_accepts_every_object(
    arguments: tuple[str, ...], render: Rendered, require_tool: Tool, tmp_path: Path
) -> None:
    objects = [each for each in render(*arguments) if each["kind"] not in OTHERS]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = run(require_tool("kubernetes-validate"), "--strict", file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed for resource ") == len(objects)
    assert "WARN" not in done.stdout


@pytest.mark.parametrize("arguments", CASES, ids=NAMES)
def test_the_chart_sets_only_settings_that_exist(
    arguments: tuple[str, ...], render: Rendered
) -> None:
    assert broker_variables(render(*arguments)) <= SETTINGS


def test_each_setting_can_be_set_through_the_chart(render: Rendered) -> None:
    everything = str(CHART / "ci" / "postgresql-values.yaml")
    assert broker_variables(render("--values", everything)) == SETTINGS


SETTINGS = {f"BROKER_{name.upper()}" for name in Settings.model_fields}


def broker_variables(objects: list[dict[str, Any]]) -> set[str]:
    names = {variable["name"] for variable in container(objects)["env"]}
    return {name for name in names if name.startswith("BROKER_")}


def test_what_the_chart_sets_can_be_read(render: Rendered, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in CASES:
        for variable in container(render(*arguments))["env"]:
            if "value" in variable:
                monkeypatch.setenv(variable["name"], variable["value"])
        assert Settings().host == "0.0.0.0"


@pytest.mark.parametrize("arguments", CASES, ids=NAMES)
def test_the_pod_has_no_rights_that_it_does_not_need(
    arguments: tuple[str, ...], render: Rendered
) -> None:
    broker = container(render(*arguments))
    assert broker["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert broker["pod"]["securityContext"]["runAsNonRoot"] is True
    assert broker["pod"]["securityContext"]["runAsUser"] != 0
    assert broker["pod"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert broker["pod"]["automountServiceAccountToken"] is False
    assert broker["pod"]["enableServiceLinks"] is False
    secrets = [volume for volume in broker["pod"]["volumes"] if "secret" in volume]
    assert all(volume["secret"]["defaultMode"] == 0o440 for volume in secrets)


@pytest.mark.parametrize("arguments", CASES, ids=NAMES)
def test_alive_depends_on_nothing_and_ready_on_what_it_serves_from(
    arguments: tuple[str, ...], render: Rendered
) -> None:
    broker = container(render(*arguments))
    [port] = broker["ports"]
    assert broker["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert broker["startupProbe"]["httpGet"]["path"] == "/livez"
    assert broker["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for probe in ("livenessProbe", "startupProbe", "readinessProbe"):
        assert broker[probe]["httpGet"]["port"] == port["name"]
        assert broker[probe]["httpGet"]["scheme"].lower() == port["name"]


@pytest.mark.parametrize("arguments", CASES, ids=NAMES)
def test_the_configuration_that_the_chart_carries_is_one(
    arguments: tuple[str, ...], render: Rendered
) -> None:
    texts = [
        text
        for each in render(*arguments)
        if each["kind"] == "ConfigMap"
        for text in each["data"].values()
    ]
    merged: dict[str, Any] = {}
    for text in texts:
        merged |= yaml.safe_load(text)
    if texts:
        Configuration.model_validate(merged)


def test_without_a_configuration_nobody_is_served(render: Rendered) -> None:
    [only] = [each for each in render() if each["kind"] == "ConfigMap"]
    configuration = Configuration.model_validate(yaml.safe_load(only["data"]["broker.yaml"]))
    assert configuration.callers == {}
    assert configuration.public_url == "http://broker-dataverse-token-broker.erp.svc"


def test_with_sqlite_there_is_one_writer_whose_volume_stays(render: Rendered) -> None:
    [workload] = [each for each in render() if each["kind"] in WORKLOADS]
    assert workload["kind"] == "StatefulSet"
    assert workload["spec"]["replicas"] == 1
    assert workload["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"


POSTGRESQL = (
    "audit.store=postgresql",
    "audit.postgresql.existingSecret=db",
    "signingKey.existingSecret=key",
)


def test_with_postgresql_there_may_be_many(render: Rendered) -> None:
    objects = render(*(part for value in POSTGRESQL for part in ("--set", value)))
    assert "Deployment" in {each["kind"] for each in objects}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param(["replicaCount=2"], "one writer", id="two-writers-of-sqlite"),
        pytest.param(["autoscaling.enabled=true"], "one writer", id="sqlite-that-scales"),
        pytest.param(["audit.store=postgresql"], "existingSecret", id="no-database"),
        pytest.param(POSTGRESQL[:2], "signingKey.existingSecret", id="replicas-without-a-key"),
        pytest.param(
            ["config.existingConfigMap=a", "config.files.b\\.yaml=c"], "not both", id="two-configs"
        ),
        pytest.param(["workloadIdentity.enabled=true"], "clientId", id="nobody-to-federate-with"),
        pytest.param(["ingress.enabled=true"], "ingress.hosts", id="ingress-to-nowhere"),
        pytest.param(["audit.stroe=sqlite"], "stroe", id="misspelt"),
        pytest.param(["workers=0"], "workers", id="nobody-works"),
        pytest.param(["podSecurityContext.runAsUser=0"], "runAsUser", id="root"),
        pytest.param(["env[0].name=BROKER_HOST"], "env", id="a-setting-set-twice"),
    ],
)
def test_the_chart_refuses_what_would_start_and_then_fail(
    values: list[str], reason: str, require_tool: Tool
) -> None:
    arguments = [part for value in values for part in ("--set", value)]
    done = run(require_tool("helm"), "template", "broker", CHART, *arguments)
    assert done.returncode != 0
    assert reason in done.stderr


def test_the_schema_knows_each_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["properties"].keys() - {"global"} == values.keys()


def test_the_chart_is_of_the_broker_that_it_starts() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == project["version"]
    assert chart["name"] == project["name"]
    assert f"ARG VERSION={project['version']}\n" in (ROOT / "Dockerfile").read_text()


def test_hadolint_finds_nothing_in_the_dockerfile(require_tool: Tool) -> None:
    hadolint = require_tool("hadolint")
    done = run(hadolint, "--config", ROOT / ".hadolint.yaml", ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout
