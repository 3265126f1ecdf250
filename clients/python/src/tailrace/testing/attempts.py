"""Run the attempts of a simulated run, with the worker's own runner."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, cast

from tailrace.testing.replacements import Clock
from tailrace.testing.virtual_loop import InlineLoop, VirtualLoop
from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.settings import WorkerSettings
from tailrace_worker.engine.decide.outcomes import Erred, Outcome
from tailrace_worker.engine.decide.plan import PlannedNode, names_of
from tailrace_worker.engine.run.attempt import Attempt
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.nodes.registry import NodeRegistry
from tailrace_worker.secrets.secret_store import Secrets, SecretStore

_TENANT = "test"
_WHEN_STUCK = (
    "a node function waits for something that never happens in a test: replace its node type if "
    "it talks to a network"
)


class _FixedSecrets(SecretStore):
    """Has a value for every secret."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__()
        self._values = values

    async def get(self, tenant: str, names: Collection[str]) -> Secrets:
        del tenant
        return Secrets({name: self._values.get(name, f"secret {name}") for name in names})


class Attempts:
    """Runs attempts, one at a time.

    Attributes:
        clock: gets the time that replaced functions take.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self.clock = Clock()
        self._secrets = _FixedSecrets(secrets)
        self._inline = cast("asyncio.AbstractEventLoop", InlineLoop())
        self._loop: VirtualLoop | None = None
        self._registry: NodeRegistry
        self._runner: Runner

    def use(self, registry: NodeRegistry) -> None:
        """Use these node functions."""
        self._registry = registry
        limit = WorkerSettings().max_output_bytes
        self._runner = Runner(registry, cast("Executor", None), limit, self._secrets)

    def run(
        self, node: PlannedNode, state: ExecutionState, step: StepState, now: float
    ) -> tuple[Outcome, list[Event], float]:
        """Run an attempt; return its outcome, its reports, and the seconds that it takes."""
        function = self._registry.get(node.node.type)
        if function is None:
            name = node.node.type
            missing = f"the test has no node type {name!r}: pass nodes={{{name!r}: function}}"
            return Erred(missing, retryable=False), [], 0.0
        if function.is_async or node.secrets:
            if not _is_loop_running():
                return self._run_in_loop(node, state, step, now)
            # In a test that is a coroutine, its loop occupies this thread.
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(self._run_in_loop, node, state, step, now).result()
        attempt = self._attempt(state, step, now, self._inline)
        outcome = self._runner.run_instant(node, state, attempt)
        return outcome, attempt.take_reports(), self.clock.take()

    def parameters(
        self, node: PlannedNode, state: ExecutionState, step_id: str
    ) -> dict[str, Any] | Erred:
        """Return the parameters of a step, or why they cannot be rendered."""
        try:
            names = names_of(step_id, state)
            rendered: dict[str, Any] = render(node.parameters, state, names, node.budget())
        except ExpressionError as error:
            return Erred(str(error), retryable=False)
        return rendered

    def _run_in_loop(
        self, node: PlannedNode, state: ExecutionState, step: StepState, now: float
    ) -> tuple[Outcome, list[Event], float]:
        loop = VirtualLoop(_WHEN_STUCK)
        try:
            attempt = self._attempt(state, step, now, loop)
            begun = loop.time()
            outcome = loop.run_until_complete(self._runner.run(node, state, attempt))
            attempt.close()
            return outcome, attempt.take_reports(), self.clock.take() + loop.time() - begun
        finally:
            loop.close()

    def _attempt(
        self, state: ExecutionState, step: StepState, now: float, loop: asyncio.AbstractEventLoop
    ) -> Attempt:
        begun = loop.time()
        return Attempt(
            _TENANT, state.execution_id, step, loop, _nothing, lambda: now + loop.time() - begun
        )


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _nothing() -> None:
    """Wake nothing: reports are taken at the end of an attempt."""
