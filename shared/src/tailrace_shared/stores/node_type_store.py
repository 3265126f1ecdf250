"""The node types that workers publish, so that the API can validate definitions."""

import time
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import NODE_TYPES
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.node_types import SHIPPED, NodeType

_CACHE_TTL_S: Final = 1.0

_decode = msgspec.json.Decoder(NodeType).decode


class NodeTypeStore:
    """Publishes and reads node types. A type stays stored after its workers have stopped."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(NODE_TYPES))
        self._known: Mapping[str, NodeType] = SHIPPED
        self._read_at = float("-inf")

    async def publish(self, node_types: Iterable[NodeType]) -> None:
        """Store node types; those that are stored already are not written again."""
        known = await self.all()
        for node_type in node_types:
            if known.get(node_type.name) != node_type:
                await self._bucket.put(node_type.name, msgspec.json.encode(node_type))

    async def all(self) -> Mapping[str, NodeType]:
        """Return all node types by name, at most a second old."""
        if time.monotonic() - self._read_at > _CACHE_TTL_S:
            return await self.read()
        return self._known

    async def read(self) -> Mapping[str, NodeType]:
        """Return all node types by name, also those that a worker has just published."""
        begun = time.monotonic()
        published = [_decode(entry.value) for entry in await self._bucket.get_many([">"])]
        self._known = {**{node_type.name: node_type for node_type in published}, **SHIPPED}
        self._read_at = begun
        return self._known
