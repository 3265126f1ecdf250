"""A real API server accepts what the chart renders from its examples, with Helm 3 and Helm 4."""

import json
from typing import Final

import pytest

from harness.kubernetes.chart import helm_program
from harness.kubernetes.cluster import Cluster, run
from tools.chart_schema import CHART

EXAMPLES: Final = sorted(path.name for path in (CHART / "ci").glob("*.yaml"))
NAMESPACE: Final = "dry"
KINDS: Final = (
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("keda.sh", "v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com", "v1", "PodMonitor"),
    ("monitoring.coreos.com", "v1", "PrometheusRule"),
)


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    """Create a namespace that warns of pods which are not restricted, and the custom resources."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    level = "pod-security.kubernetes.io/warn=restricted"
    cluster.kubectl("label", "namespace", NAMESPACE, level)
    for kind in KINDS:
        cluster.define(*kind)
    return NAMESPACE


@pytest.mark.parametrize("helm", ["helm3", "helm"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_api_server_accepts_the_examples(
    cluster: Cluster, namespace: str, helm: str, example: str
):
    values = str(CHART / "ci" / example)
    options = ("--kubeconfig", str(cluster.config), "--namespace", namespace)
    command = [helm_program(helm), "install", "dry", str(CHART), "--values", values]
    rendered = json.loads(run([*command, "--dry-run=server", "--output=json", *options]))
    resources = [rendered["manifest"], *(hook["manifest"] for hook in rendered["hooks"])]
    applied = cluster.kubectl(
        *("apply", "--namespace", namespace, "--dry-run=server", "--validate=strict"),
        *("--warnings-as-errors", "-f", "-"),
        content="\n---\n".join(resources),
    )
    assert "deployment.apps/dry-api created (server dry run)" in applied
