"""Find the steps that a rerun keeps: those that succeeded and do not depend on its first node."""

from collections.abc import Collection
from typing import Final

import msgspec

from tailrace_shared.errors import ExecutionNotFoundError, OutputNotFoundError, OutputTooLargeError
from tailrace_shared.execution.events import (
    MAX_VALUE_BYTES,
    Event,
    OutputRef,
    StepCompleted,
    StepDone,
)
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.graph import Graph
from tailrace_worker.engine.services.engine_services import EngineServices

_FIRST_ATTEMPT: Final = 1


def run_again(graph: Graph, from_node: str) -> Collection[str]:
    """Return the nodes that a rerun runs again: a node and all that depend on it."""
    found = {from_node}
    for node in graph.order:
        if any(need in found for need in graph.needs[node]):
            found.add(node)
    return found


async def kept_steps(
    services: EngineServices, tenant: str, rerun: ExecutionState, graph: Graph
) -> list[Event]:
    """Return the completions that a rerun keeps and does not have yet.

    Raises:
        ExecutionNotFoundError: the original, or an output to keep, has expired.
        UnavailableError: NATS did not answer.
    """
    if rerun.rerun_of is None or rerun.from_node is None:
        return []
    original = (await services.stores.log.load_newest(tenant, rerun.rerun_of)).state
    again = run_again(graph, rerun.from_node)
    wanted = [
        step
        for node in graph.order
        if node not in again
        and (step := original.steps.get(node)) is not None
        and step.status == "success"
        and node not in rerun.steps
    ]
    try:
        await services.stores.outputs.fetch(original, [step.node_id for step in wanted])
        return [await _kept_completion(services, tenant, rerun, step) for step in wanted]
    except (OutputNotFoundError, OutputTooLargeError) as error:
        raise ExecutionNotFoundError(str(error)) from error


async def _kept_completion(
    services: EngineServices, tenant: str, rerun: ExecutionState, step: StepState
) -> Event:
    stamp = format_timestamp(services.now())
    encoded = msgspec.json.encode(step.output)
    ref: OutputRef | None = None
    if len(encoded) > MAX_VALUE_BYTES:
        # Stored again, because the original output expires sooner.
        ref = await services.stores.outputs.put(
            tenant, rerun.execution_id, step.node_id, _FIRST_ATTEMPT, encoded
        )
    return StepCompleted(
        StepDone(
            step.node_id,
            step.node_type,
            "success",
            step.attempt,
            step.started_at or stamp,
            step.completed_at or stamp,
            step.duration_ms or 0,
            None if ref else step.output,
            output_ref=ref,
            kept_from=step.kept_from or rerun.rerun_of,
            stage=step.stage,
            sensitive=step.sensitive,
            name=step.name,
        ),
        stamp,
    )
