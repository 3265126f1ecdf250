"""A custom metrics API on this machine, as the Prometheus adapter is one in a production cluster.

It serves one metric of pods: the sum of a gauge in their ``/metrics``, read at each request.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness.kubernetes.cluster import Cluster, Resource, run

_GROUP: Final = "custom.metrics.k8s.io"
_VERSION: Final = "v1beta2"
_NAMESPACE: Final = "custom-metrics"
_ROOT: Final = f"/apis/{_GROUP}/{_VERSION}"


class MetricsAdapter:
    """Serves a metric of pods, and registers itself with the API server of a cluster.

    Args:
        cluster: the cluster.
        folder: for its certificate.
        address: an address of this machine that the cluster reaches.
        metric: the name of the gauge.
        port: the port of the pods that has ``/metrics``.
    """

    def __init__(
        self, cluster: Cluster, folder: Path, address: str, metric: str, port: int
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._metric = metric
        self._port = port
        self._http = httpx.Client(trust_env=False, timeout=30)
        self._server = ThreadingHTTPServer((address, 0), _handler(self._answer))
        self._server.socket = self._tls().wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        for resource in self._resources():
            self._cluster.kubectl("apply", "-f", "-", content=json.dumps(resource))
        name = f"apiservice/{_VERSION}.{_GROUP}"
        self._cluster.kubectl("wait", "--for=condition=Available", name, "--timeout=180s")
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.kubectl("delete", "apiservice", f"{_VERSION}.{_GROUP}")
        self._cluster.kubectl("delete", "namespace", _NAMESPACE)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._http.close()

    def _tls(self) -> ssl.SSLContext:
        key, certificate = self._folder / "adapter.key", self._folder / "adapter.crt"
        options = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=adapter")
        run(["openssl", "req", *options, "-keyout", str(key), "-out", str(certificate)])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context

    def _resources(self) -> list[Resource]:
        address, port = self._server.server_address[:2]
        meta = {"name": "adapter", "namespace": _NAMESPACE}
        service = {"name": "adapter", "namespace": _NAMESPACE, "port": 443}
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": {"ports": [{"port": 443, "targetPort": port}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**meta, "labels": {"kubernetes.io/service-name": "adapter"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
                "ports": [{"port": port, "name": "", "protocol": "TCP"}],
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": f"{_VERSION}.{_GROUP}"},
                "spec": {
                    "group": _GROUP,
                    "version": _VERSION,
                    "service": service,
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        ]

    def _answer(self, target: str) -> Mapping[str, Any] | None:
        """Return the body of an answer, or None if there is no such resource."""
        url = urlsplit(target)
        if url.path == _ROOT:
            resource = {"name": f"pods/{self._metric}", "namespaced": True, "verbs": ["get"]}
            return {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": f"{_GROUP}/{_VERSION}",
                "resources": [{**resource, "kind": "MetricValueList", "singularName": ""}],
            }
        parts = unquote(url.path).removeprefix(f"{_ROOT}/").split("/")
        if len(parts) != 5 or parts[0] != "namespaces" or parts[2:] != ["pods", "*", self._metric]:
            return None
        [labels] = parse_qs(url.query).get("labelSelector", [""])
        pods = self._cluster.get("pods", "-n", parts[1], "-l", labels)
        return {
            "kind": "MetricValueList",
            "apiVersion": f"{_GROUP}/{_VERSION}",
            "metadata": {},
            "items": [item for pod in pods if (item := self._value(pod)) is not None],
        }

    def _value(self, pod: Resource) -> Resource | None:
        """Return the metric of a pod, or None if it does not answer."""
        try:
            found = self._http.get(f"http://{pod['status']['podIP']}:{self._port}/metrics")
        except (KeyError, httpx.TransportError):
            return None
        families = text_string_to_metric_families(found.text)
        samples = [sample for family in families for sample in family.samples]
        value = sum(sample.value for sample in samples if sample.name == self._metric)
        meta = pod["metadata"]
        described = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"]}
        return {
            "describedObject": {**described, "apiVersion": "v1"},
            "metric": {"name": self._metric},
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "value": str(int(value)),
        }


def _handler(
    answer: Callable[[str], Mapping[str, Any] | None],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET with JSON."""

        def do_GET(self) -> None:
            body = answer(self.path)
            content = json.dumps(body or {"kind": "Status", "code": 404}).encode()
            self.send_response(404 if body is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
