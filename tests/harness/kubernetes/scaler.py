"""Scales workers by demand as KEDA does, which cannot be installed from package registries.

It reads the ScaledObjects of a release, and asks the URL of their trigger. The delays of KEDA and
of its autoscaler are left out.
"""

import asyncio
import contextlib
import math
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import httpx

from harness.kubernetes.cluster import Cluster, Resource
from harness.kubernetes.release import Release

_PAUSE_S: Final = 1.0


class Scaler:
    """Scales the targets of the ScaledObjects of a release.

    Args:
        cluster: where the release runs.
        release: the release.

    Attributes:
        replicas: the numbers of replicas of each target, in order.
    """

    def __init__(self, cluster: Cluster, release: Release) -> None:
        self._cluster = cluster
        self._release = release
        self.replicas: dict[str, list[int]] = {}

    async def run(self) -> None:
        """Scale until cancelled. While the API does not answer, the replicas stay."""
        objects = await asyncio.to_thread(
            self._cluster.get, "scaledobjects", "-n", self._release.name
        )
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            while True:
                for each in objects:
                    with contextlib.suppress(httpx.TransportError, httpx.HTTPStatusError):
                        await self._scale(http, each["spec"])
                await asyncio.sleep(_PAUSE_S)

    async def _scale(self, http: httpx.AsyncClient, spec: Mapping[str, Any]) -> None:
        [trigger] = spec["triggers"]
        assert trigger["type"] == "metrics-api"
        demand = await self._read(http, trigger["metadata"])
        wanted = math.ceil(demand / float(trigger["metadata"]["targetValue"]))
        wanted = min(max(wanted, spec["minReplicaCount"]), spec["maxReplicaCount"])
        target = spec["scaleTargetRef"]["name"]
        known = self.replicas.setdefault(target, [])
        if not known or known[-1] != wanted:
            known.append(wanted)
            await asyncio.to_thread(
                self._release.kubectl, "scale", f"deployment/{target}", f"--replicas={wanted}"
            )

    async def _read(self, http: httpx.AsyncClient, metadata: Mapping[str, str]) -> float:
        """Return the value of a trigger."""
        url = urlsplit(metadata["url"])
        service, namespace, *_ = (url.hostname or "").split(".")
        found: list[Resource] = await asyncio.to_thread(
            self._cluster.get, "service", service, "-n", namespace
        )
        address = f"{found[0]['spec']['clusterIP']}:{url.port}"
        answer = await http.get(urlunsplit(url._replace(netloc=address)))
        answer.raise_for_status()
        assert metadata["valueLocation"] == "demand"
        return float(answer.json()["demand"])
