"""The services of the engine: the version of a workflow that an execution names."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from harness.fakes.virtual_time import run_in_virtual_time
from harness.generators.workflows import definition
from tailrace_shared.errors import WorkflowNotFoundError
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_worker.engine.services.engine_services import EngineServices

STORED = StoredWorkflow(definition({"a": {}}), 7)


class LateStore:
    """A store that says for some seconds that it has nothing."""

    def __init__(self, absent_until: float) -> None:
        self._absent_until = absent_until

    async def get(self, _tenant: str, _workflow: str, _version: int) -> StoredWorkflow:
        if asyncio.get_running_loop().time() < self._absent_until:
            raise WorkflowNotFoundError
        return STORED


async def stored(absent_until: float) -> StoredWorkflow:
    """Return what the services find in such a store."""
    stores = SimpleNamespace(workflows=LateStore(absent_until))
    services: Any = SimpleNamespace(stores=stores, loop=asyncio.get_running_loop())
    return await EngineServices._stored(services, "t", "w", 7)


def test_a_version_is_gone_only_if_it_stays_gone() -> None:
    """A leader whose disk is full says that it has nothing before it gives up."""
    assert run_in_virtual_time(stored(absent_until=3)) is STORED
    with pytest.raises(WorkflowNotFoundError):
        run_in_virtual_time(stored(absent_until=60))
