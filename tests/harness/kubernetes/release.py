"""The chart, installed on a cluster."""

import json
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import nats
import yaml

from harness.kubernetes.cluster import Cluster, CommandFailed, Resource, run
from tailrace_shared.nats.jetstream import JetStream
from tools.chart_schema import CHART

_TIMEOUT: Final = "10m"
_PAUSE_S: Final = 0.5


class Release:
    """A release in a namespace of its own, whose pods must be restricted.

    Args:
        cluster: where it runs.
        helm: the path of Helm.
        name: of the release and its namespace.
        values: all that differs from the defaults of the chart.
        chart: a copy of the chart, to change its templates.
    """

    def __init__(
        self,
        cluster: Cluster,
        helm: str,
        name: str,
        values: Mapping[str, Any],
        chart: Path = CHART,
    ) -> None:
        self._cluster = cluster
        self._helm = helm
        self._name = name
        self._values = dict(values)
        self._changes: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self.chart = chart

    def install(self) -> None:
        """Create the namespace and the volumes of the NATS servers, then install."""
        self._cluster.kubectl("create", "namespace", self._name)
        level = "pod-security.kubernetes.io/enforce=restricted"
        self._cluster.kubectl("label", "namespace", self._name, level)
        servers = self._values["nats"]["bundled"]["servers"]
        claims = [f"data-{self._name}-nats-{number}" for number in range(servers)]
        self._cluster.add_volumes(self._name, claims)
        self._apply("install")

    def upgrade(self, changes: Mapping[str, Any], *options: str) -> None:
        """Upgrade with changed values, at dotted paths; return when all pods are the new ones.

        Later upgrades keep the changes, unless a rollback follows.
        """
        self._before, self._changes = self._changes, {**self._changes, **changes}
        self._apply("upgrade", *options)

    def rollback(self, *revision: str) -> None:
        """Go back to the revision before, or to another one."""
        self._changes = self._before
        self.helm("rollback", self._name, *revision, "--wait", f"--timeout={_TIMEOUT}")

    def test(self) -> str:
        """Run ``helm test``; return its output."""
        return self.helm("test", self._name, "--logs")

    def uninstall(self) -> None:
        """Remove the release and its namespace."""
        self.helm("uninstall", self._name, "--wait", f"--timeout={_TIMEOUT}")
        self._cluster.kubectl("delete", "namespace", self._name)

    def helm(self, *arguments: str) -> str:
        """Run Helm in the namespace; return its output."""
        options = ("--kubeconfig", str(self._cluster.config), "--namespace", self._name)
        return run([self._helm, *arguments, *options], timeout=900)

    def kubectl(self, *arguments: str, content: str | None = None) -> str:
        """Run kubectl in the namespace; return its output."""
        return self._cluster.kubectl("--namespace", self._name, *arguments, content=content)

    def _apply(self, verb: str, *more: str) -> None:
        values = self._cluster.folder / f"{self._name}-values.yaml"
        values.write_text(yaml.safe_dump(self._values))
        settings = [
            f"--set-json={path}={json.dumps(value)}" for path, value in self._changes.items()
        ]
        options = ("--values", str(values), *settings, "--wait", f"--timeout={_TIMEOUT}")
        self.helm(verb, self._name, str(self.chart), *options, *more)

    # What runs

    @property
    def name(self) -> str:
        """Its name, which is that of its namespace too."""
        return self._name

    def pods(self, component: str) -> list[Resource]:
        """Return the pods of a component that are not being deleted, by name."""
        label = f"app.kubernetes.io/component={component}"
        found = self._cluster.get("pods", "-n", self._name, "-l", label)
        alive = [each for each in found if "deletionTimestamp" not in each["metadata"]]
        return sorted(alive, key=lambda each: str(each["metadata"]["name"]))

    def address(self, service: str) -> str:
        """Return the address of one of its Services inside the cluster."""
        [found] = self._cluster.get("service", f"{self._name}-{service}", "-n", self._name)
        return str(found["spec"]["clusterIP"])

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStream]:
        """Connect to the bundled NATS servers."""
        path = "go-template={{.data.token | base64decode}}"
        token = self.kubectl("get", "secret", f"{self._name}-nats", "-o", path)
        client = await nats.connect(f"nats://{token}@{self.address('nats')}:4222")
        try:
            yield JetStream(client)
        finally:
            await client.close()

    def wait(self, kind: str, component: str) -> None:
        """Wait until a Deployment or StatefulSet has all its pods, of the newest kind, ready."""
        name = f"{kind}/{self._name}-{component}"
        self.kubectl("rollout", "status", name, f"--timeout={_TIMEOUT}")

    def wait_until_gone(self, component: str) -> None:
        """Wait until no pod of a component is left."""
        label = f"app.kubernetes.io/component={component}"
        while self._cluster.get("pods", "-n", self._name, "-l", label):
            time.sleep(_PAUSE_S)

    def finish_job(self, job: str) -> str:
        """Wait until a Job has completed; return what its last pod has printed.

        Raises:
            CommandFailed: it has failed; the text has the output of its pods.
        """
        ends = {"Complete", "Failed"}
        while not (end := ends & self._conditions(job)):
            time.sleep(_PAUSE_S)
        printed = self.kubectl("logs", "--selector", f"job-name={job}", "--tail=-1")
        if end != {"Complete"}:
            raise CommandFailed(f"{job}: {printed}")
        return printed

    def _conditions(self, job: str) -> set[str]:
        [found] = self._cluster.get("job", job, "-n", self._name)
        conditions = found["status"].get("conditions", ())
        return {each["type"] for each in conditions if each["status"] == "True"}

    def allowed_disruptions(self, component: str) -> int:
        """Return how many pods of a component may be evicted now."""
        name = f"{self._name}-{component}"
        [budget] = self._cluster.get("poddisruptionbudget", name, "-n", self._name)
        return int(budget["status"].get("disruptionsAllowed", 0))

    def evict(self, pod: str) -> bool:
        """Ask for the eviction of a pod; return whether the disruption budget allows it."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self._name},
        }
        path = f"/api/v1/namespaces/{self._name}/pods/{pod}/eviction"
        try:
            self._cluster.kubectl("create", "--raw", path, "-f", "-", content=json.dumps(eviction))
        except CommandFailed as refused:
            if "disruption budget" not in str(refused):
                raise
            return False
        return True


def container_of(pod: Resource) -> str:
    """Return the id of a pod's container."""
    [status] = pod["status"]["containerStatuses"]
    return str(status["containerID"]).removeprefix("containerd://")


def changed_chart(folder: Path, *changes: tuple[str, str, str]) -> Path:
    """Copy the chart, with other texts in its templates; return the copy.

    Args:
        folder: where the copy is written.
        changes: templates, a text in each, and what takes its place.
    """
    copy = Path(shutil.copytree(CHART, folder / "tailrace"))
    for template, old, new in changes:
        path = copy / "templates" / template
        text = path.read_text()
        assert text.count(old) == 1, f"{template} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new))
    return copy
