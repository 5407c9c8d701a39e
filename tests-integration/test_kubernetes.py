"""The manifests in `deploy/kubernetes`: Kubernetes accepts them, and their parts fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from documents.accepted import refused
from starlette.testclient import TestClient

from apflow.core.settings import Settings
from apflow.core.store.memory import MemoryStore
from apflow.server import create_app

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "kubernetes"
PAGE = (ROOT / "docs" / "how-to" / "run-on-kubernetes.md").read_text()
DOCKERFILE = (ROOT / "deploy" / "container" / "Dockerfile").read_text()
OLDEST = re.search(r"Kubernetes (1\.\d+) or later", PAGE)
KUSTOMIZATION = FOLDER / "kustomization.yaml"
FILES = [each for each in sorted(FOLDER.iterdir()) if each != KUSTOMIZATION]

Manifest = dict[str, Any]


def manifests() -> Iterator[Manifest]:
    for file in FILES:
        yield from yaml.safe_load_all(file.read_text())


def of_kind(kind: str) -> list[Manifest]:
    return [each for each in manifests() if each["kind"] == kind]


MANIFESTS = [pytest.param(each, id=f"{each['kind']}-{each['metadata']['name']}") for each in manifests()]
DEPLOYMENTS = [pytest.param(each, id=each["metadata"]["name"]) for each in of_kind("Deployment")]


def versions() -> list[str]:
    """Return the versions that are supported: from that which the page names to the newest that is known."""
    assert OLDEST is not None
    oldest = tuple(int(part) for part in OLDEST[1].split("."))
    newest = tuple(int(part) for part in kubernetes_validate.latest_version().split(".")[:2])
    return [f"1.{minor}" for minor in range(oldest[1], newest[1] + 1)]


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_kubernetes_accepts_a_manifest(manifest: Manifest):
    for version in versions():
        assert kubernetes_validate.validate(manifest, version, strict=True) == version


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_a_manifest_with_a_mistake_is_refused(manifest: Manifest):
    with pytest.raises(kubernetes_validate.ValidationError, match="unexpected"):
        kubernetes_validate.validate(manifest | {"specification": {}}, versions()[-1], strict=True)


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_command_of_a_pod_exists(deployment: Manifest):
    assert refused(container_of(deployment)["args"]) is None
    assert refused([*container_of(deployment)["args"], "--no-such-option"]) is not None


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_pod_has_time_to_drain(deployment: Manifest):
    settings = of_kind("ConfigMap")[0]["data"]
    before = (
        container_of(deployment).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    )
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= before + float(settings["APFLOW_SHUTDOWN_TIMEOUT"]) + 10


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_pod_fits_the_image(deployment: Manifest):
    """The user, the directories that it may write to, and the port are those of the Dockerfile."""
    pod, container = deployment["spec"]["template"]["spec"], container_of(deployment)
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    assert user is not None
    context = pod["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {each["mountPath"] for each in container["volumeMounts"]} == {"/data", "/tmp"}
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    for port in container.get("ports", []):
        assert f"EXPOSE {port['containerPort']}" in DOCKERFILE


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_a_pod_gets_the_settings_and_the_secrets(deployment: Manifest):
    sources = container_of(deployment)["envFrom"]
    assert sources[0]["configMapRef"]["name"] == of_kind("ConfigMap")[0]["metadata"]["name"]
    secret = sources[1]["secretRef"]["name"]
    assert f"create secret generic {secret} " in PAGE


def test_what_selects_pods_selects_those_of_one_deployment():
    for deployment in of_kind("Deployment"):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        for spread in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
            assert spread["labelSelector"]["matchLabels"] == labels
    [server] = [each for each in of_kind("Deployment") if container_of(each)["args"] == ["serve"]]
    labels = server["spec"]["template"]["metadata"]["labels"]
    [service], [budget], [ingress] = (of_kind(k) for k in ("Service", "PodDisruptionBudget", "Ingress"))
    assert service["spec"]["selector"] == labels == budget["spec"]["selector"]["matchLabels"]
    assert budget["spec"]["minAvailable"] < server["spec"]["replicas"]
    assert service["spec"]["ports"][0]["targetPort"] in [p["name"] for p in container_of(server)["ports"]]
    [path] = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert path["backend"]["service"]["port"]["name"] == service["spec"]["ports"][0]["name"]


def test_the_server_answers_the_probes():
    [server] = [each for each in of_kind("Deployment") if container_of(each)["args"] == ["serve"]]
    probes = ("startupProbe", "livenessProbe", "readinessProbe")
    paths = {container_of(server)[name]["httpGet"]["path"] for name in probes}
    app = create_app(
        Settings(jwt_secret="a secret of tests that is long enough to sign with"), db=MemoryStore()
    )
    with TestClient(app, base_url="http://10.1.2.3:8000") as client:  # probes name the pod by its address
        assert {path: client.get(path).status_code for path in paths} == dict.fromkeys(paths, 200)


def test_each_file_is_applied_or_described():
    kustomization = yaml.safe_load(KUSTOMIZATION.read_text())
    applied = {FOLDER / name for name in kustomization["resources"]}
    assert applied <= set(FILES)
    for file in {*FILES, KUSTOMIZATION} - {FOLDER / "namespace.yaml"}:
        assert f"| `{file.name}` |" in PAGE
    for file in set(FILES) - applied:
        assert "Not in kustomization.yaml" in file.read_text()
    images = {container_of(each)["image"] for each in of_kind("Deployment")}
    assert images == {each["name"] for each in kustomization["images"]}


def container_of(deployment: Manifest) -> dict[str, Any]:
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return container
