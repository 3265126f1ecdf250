"""Two tenants with the same ids on one system: a worker process, and the API in the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.http.tenants import Tenant, Tenants
from harness.http.token_issuer import SECRET
from harness.nats.server import NatsServer
from harness.processes.in_process_api import api_in_process
from harness.processes.service import Service
from tailrace_shared.duration import Duration


@pytest.fixture
async def tenants(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Tenants]:
    """Two tenants whose executions have settled."""
    environment = {"NATS_URL": nats_server.url}
    settings: dict[str, Any] = {"auth": "jwt", "auth_secret": SECRET, "retry": Duration(0.02)}
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(Service("tailrace_worker", environment, tmp_path / "worker.log"))
        api = await stack.enter_async_context(
            api_in_process(nats_server.url, heartbeat=Duration(0.2), **settings)
        )
        made = []
        for name, marker in (("ann", "markofann"), ("bob", "markofbob")):
            http = await stack.enter_async_context(
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", timeout=20)
            )
            tenant = Tenant(name, marker, http, api.port)
            http.headers.update(tenant.headers)
            made.append(tenant)
        ann, bob = await asyncio.gather(*(tenant.populate() for tenant in made))
        yield Tenants(api, ann, bob)
