"""The connections that NetworkPolicies allow, decided as the documentation of Kubernetes says.

Only selectors with ``matchLabels`` are known; others are refused.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Resource = dict[str, Any]

NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class Peer:
    """A pod, or an address outside the cluster.

    Attributes:
        namespace: the pod's namespace; empty for an address outside.
        labels: the pod's labels.
        ports: numbers of the pod's ports by name.
        address: the address outside.
    """

    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = ""


class Policies:
    """NetworkPolicies of one namespace.

    Args:
        namespace: the namespace.
        resources: all resources of a chart; others than policies are left out.
    """

    def __init__(self, namespace: str, resources: Sequence[Resource]) -> None:
        self._namespace = namespace
        self._policies = [each["spec"] for each in resources if each["kind"] == "NetworkPolicy"]

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Return whether a connection may leave its source and enter its target."""
        return self._permits("Egress", source, target, target, port, protocol) and self._permits(
            "Ingress", target, source, target, port, protocol
        )

    def _permits(
        self, direction: str, pod: Peer, other: Peer, target: Peer, port: int, protocol: str
    ) -> bool:
        policies = [
            each
            for each in self._policies
            if pod.namespace == self._namespace
            and direction in each["policyTypes"]
            and _matches(each["podSelector"], pod.labels)
        ]
        if not policies:
            return True
        key = "to" if direction == "Egress" else "from"
        return any(
            self._is_peer(rule.get(key), other)
            and _is_port(rule.get("ports"), target, port, protocol)
            for each in policies
            for rule in each.get(direction.lower()) or []
        )

    def _is_peer(self, peers: Sequence[Resource] | None, other: Peer) -> bool:
        if not peers:
            return True
        return any(self._selects(each, other) for each in peers)

    def _selects(self, peer: Resource, other: Peer) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            if not other.address:
                return False
            address = ipaddress.ip_address(other.address)
            return address in ipaddress.ip_network(block["cidr"]) and not any(
                address in ipaddress.ip_network(each) for each in block.get("except", [])
            )
        if not other.namespace:
            return False
        if "namespaceSelector" in peer:
            is_there = _matches(peer["namespaceSelector"], {NAMESPACE_LABEL: other.namespace})
        else:
            is_there = other.namespace == self._namespace
        return is_there and _matches(peer.get("podSelector", {}), other.labels)


def _matches(selector: Resource, labels: Mapping[str, str]) -> bool:
    if unknown := set(selector) - {"matchLabels"}:
        raise ValueError(f"a selector has {sorted(unknown)}")
    wanted: dict[str, str] = selector.get("matchLabels", {})
    return wanted.items() <= dict(labels).items()


def _is_port(ports: Sequence[Resource] | None, target: Peer, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        each.get("protocol", "TCP") == protocol
        and target.ports.get(str(each["port"]), each["port"]) == port
        for each in ports
    )


def pods_of(resources: Sequence[Resource], namespace: str) -> dict[str, Peer]:
    """Return the pods, and those of Deployments, StatefulSets and jobs, by their component."""
    found = {}
    for each in resources:
        if each["kind"] == "Pod":
            template = each
        elif each["kind"] in ("Deployment", "StatefulSet", "Job"):
            template = each["spec"]["template"]
        elif each["kind"] == "CronJob":
            template = each["spec"]["jobTemplate"]["spec"]["template"]
        else:
            continue
        labels = template["metadata"]["labels"]
        ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        found[labels["app.kubernetes.io/component"]] = Peer(namespace, labels, ports)
    return found
