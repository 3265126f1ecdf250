"""The network policies of the chart allow the connections of its services, and no others."""

from typing import Any

import pytest
import yaml

from harness.kubernetes.chart import Chart, changed
from harness.kubernetes.network_policies import Peer, Policies, pods_of
from tools.chart_schema import CHART

HTTP, INTERNAL, WORKER_METRICS, NATS, ROUTE, MONITOR, DNS = 8080, 8081, 9100, 4222, 6222, 8222, 53
COLLECTOR = 4318
HERE = "demo"

OUTSIDE = {
    "client": Peer(address="203.0.113.7"),
    "private address": Peer(address="10.1.2.3"),
    "metadata service": Peer(address="169.254.169.254"),
    "gateway": Peer("gateways", {"app": "gateway"}),
    "prometheus": Peer("monitoring", {"app": "prometheus"}),
    "stranger": Peer("elsewhere", {"app": "x"}),
    "neighbour": Peer(HERE, {"app": "x"}),
    "nats of its own": Peer("nats", {"app": "nats"}),
    "collector": Peer("tracing", {"app": "collector"}),
    "names": Peer("kube-system", {"k8s-app": "kube-dns"}),
}

PODS = [name for name, peer in OUTSIDE.items() if peer.namespace]

ALLOWED_IN_A_TRIAL = {
    *((name, "api", HTTP) for name in OUTSIDE),
    # Any pod may scrape metrics, unless `networkPolicy.monitoring` says which.
    *((name, "api", INTERNAL) for name in PODS),
    *((name, "worker-default", WORKER_METRICS) for name in PODS),
    *((name, "nats", NATS) for name in ("api", "worker-default", "topology")),
    ("nats", "nats", ROUTE),
    # Public addresses, for steps that call HTTP APIs.
    ("worker-default", "client", 80),
    ("worker-default", "client", 443),
}

ALLOWED_IN_PRODUCTION = {
    *((name, "api", HTTP) for name in OUTSIDE),
    ("prometheus", "api", INTERNAL),
    ("prometheus", "worker-default", WORKER_METRICS),
    ("prometheus", "worker-reports", WORKER_METRICS),
    *(
        (name, "nats of its own", NATS)
        for name in ("api", "worker-default", "worker-reports", "topology")
    ),
    # The other pool has `egress: []`.
    ("worker-default", "client", 80),
    ("worker-default", "client", 443),
    *((name, "collector", COLLECTOR) for name in ("api", "worker-default", "worker-reports")),
}
"""The jobs, backups and `helm test` are pods of the component `topology`."""

RESTORE = {"restore": {"file": "tailrace-1.age", "identity": {"secretName": "key"}}}

PORTS = (HTTP, INTERNAL, WORKER_METRICS, NATS, ROUTE, MONITOR, COLLECTOR, 80, 443, 8443)


def keys_at(port: int) -> set[tuple[str, str, int]]:
    """Return the connections to the key set of the issuer, wherever it is."""
    return {("api", name, port) for name in OUTSIDE}


def traces_at(port: int) -> set[tuple[str, str, int]]:
    """Return the connections in production, with the collector at another port."""
    return {
        (source, target, port if target == "collector" else known)
        for source, target, known in ALLOWED_IN_PRODUCTION
    }


@pytest.mark.parametrize(
    ("example", "changes", "allowed"),
    [
        ("trial", {}, ALLOWED_IN_A_TRIAL),
        ("trial", {"topologyJob.enabled": False}, ALLOWED_IN_A_TRIAL),
        ("trial", {"backup.claimName": "backups", **RESTORE}, ALLOWED_IN_A_TRIAL),
        ("production", {}, ALLOWED_IN_PRODUCTION | keys_at(443)),
        ("production", RESTORE, ALLOWED_IN_PRODUCTION | keys_at(443)),
        (
            "production",
            {"auth.jwksUrl": "https://id:8443/jwks.json"},
            ALLOWED_IN_PRODUCTION | keys_at(8443),
        ),
        ("production", {"networkPolicy.jwksPort": 8443}, ALLOWED_IN_PRODUCTION | keys_at(8443)),
        (
            "production",
            {"tracing.endpoint": "https://u:80@collector/"},
            traces_at(443) | keys_at(443),
        ),
        (
            "production",
            {"tracing.endpoint": "http://[fd00::1]/a:443"},
            traces_at(80) | keys_at(443),
        ),
        ("production", {"networkPolicy.tracingPort": 8443}, traces_at(8443) | keys_at(443)),
    ],
)
def test_connections_are_those_of_the_table(
    chart: Chart, example: str, changes: dict[str, Any], allowed: set[tuple[str, str, int]]
):
    """Of all pairs of a pod of the chart and another pod or address, on all ports."""
    values = yaml.safe_load((CHART / "ci" / f"{example}-values.yaml").read_text())
    resources = chart.render(changed(values, changes))
    policies, own = Policies(HERE, resources), pods_of(resources, HERE)
    peers = {**OUTSIDE, **own}
    found = {
        (source, target, port)
        for source, target in _pairs(peers, own)
        for port in PORTS
        if policies.allows(peers[source], peers[target], port)
    }
    assert sorted(found) == sorted(allowed)
    for name, pod in own.items():
        for protocol in ("UDP", "TCP"):
            assert policies.allows(pod, OUTSIDE["names"], DNS, protocol), name


def _pairs(peers: dict[str, Peer], own: dict[str, Peer]) -> list[tuple[str, str]]:
    return [
        (source, target) for source in peers for target in peers if source in own or target in own
    ]


def test_services_listen_on_no_other_port(chart: Chart):
    """A policy that does not name a port closes it to Prometheus and the kubelet alike."""
    values = yaml.safe_load((CHART / "ci" / "trial-values.yaml").read_text())
    ports = {
        port for pod in pods_of(chart.render(values), HERE).values() for port in pod.ports.values()
    }
    assert ports == {HTTP, INTERNAL, WORKER_METRICS, NATS, ROUTE, MONITOR}
