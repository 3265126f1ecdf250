"""Record the completions that a rerun keeps of the execution that it repeats."""

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
from tailrace_shared.workflow.definition import Definition
from tailrace_worker.engine.decide.kept_steps import steps_to_keep
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.services.engine_services import EngineServices

_FIRST_ATTEMPT: Final = 1


async def kept_steps(
    services: EngineServices, tenant: str, rerun: ExecutionState, plan: Plan
) -> list[Event]:
    """Return the completions that a rerun keeps and does not have yet.

    Raises:
        ExecutionNotFoundError: the original, or an output to keep, has expired.
        WorkflowNotFoundError: the version that the original ran is not stored any more.
        UnavailableError: NATS did not answer.
    """
    if rerun.rerun_of is None or not rerun.keeps_steps:
        return []
    original = (await services.stores.log.load_newest(tenant, rerun.rerun_of)).state
    before = await _definition_before(services, tenant, rerun, original)
    wanted = [
        step
        for step in steps_to_keep(rerun, plan, original, before)
        if step.node_id not in rerun.steps
    ]
    try:
        await services.stores.outputs.fetch(original, [step.node_id for step in wanted])
        return [await _kept_completion(services, tenant, rerun, step) for step in wanted]
    except (OutputNotFoundError, OutputTooLargeError) as error:
        raise ExecutionNotFoundError(str(error)) from error


async def _definition_before(
    services: EngineServices, tenant: str, rerun: ExecutionState, original: ExecutionState
) -> Definition | None:
    if original.version == rerun.version:
        return None
    return (await services.plan(tenant, original.workflow_id, original.version)).definition


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
