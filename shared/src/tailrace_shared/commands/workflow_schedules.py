"""Install the schedules of a definition together with it."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from tailrace_shared.commands.run_input import InputCheck, InvalidInputError
from tailrace_shared.errors import InvalidScheduleError, ScheduleNotFoundError
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.schedule_store import Schedule, ScheduleStore
from tailrace_shared.workflow.definition import Definition, ScheduleSpec
from tailrace_shared.workflow.schedule_specs import pattern_of
from tailrace_shared.workflow.validation import Problem

# What a definition does not say about its schedules.
_UNSPECIFIED: Final[Mapping[str, Any]] = {"created_at": 0.0, "paused": False, "since": None}


class WorkflowSchedules:
    """Puts and deletes the schedules that definitions have.

    Args:
        schedules: all schedules.
        threads: validate inputs that take long.
    """

    def __init__(self, schedules: ScheduleStore, threads: FairThreads) -> None:
        self._schedules = schedules
        self._inputs = InputCheck(threads)

    async def put(self, tenant: str, definition: Definition) -> list[Problem]:
        """Store the schedules of a definition; return problems, of which none is stored.

        A schedule that has not changed is left as it is, with the phase of its interval.

        Raises:
            UnavailableError: NATS did not answer; some may be stored.
        """
        problems: list[Problem] = []
        changed: list[tuple[int, Schedule]] = []
        for index, spec in enumerate(definition.schedules):
            schedule = _schedule(definition.id, spec)
            stored = await self._stored(tenant, spec.id)
            if stored is not None and stored.workflow_id != definition.id:
                detail = f"the workflow {stored.workflow_id!r} has a schedule with this id"
                problems.append(Problem(f"/schedules/{index}/id", detail))
            elif stored is None:
                changed.append((index, msgspec.structs.replace(schedule, created_at=time.time())))
            elif msgspec.structs.replace(stored, **_UNSPECIFIED) != schedule:
                # A pause is an operator's, and outlasts new versions.
                new = {"created_at": time.time(), "paused": stored.paused}
                changed.append((index, msgspec.structs.replace(schedule, **new)))
            problems += [
                problem async for problem in self._input_problems(tenant, definition, index, spec)
            ]
        if problems:
            return problems
        for index, schedule in changed:
            try:
                await self._schedules.put(tenant, schedule)
            except InvalidScheduleError as error:
                field = "every" if definition.schedules[index].every else error.field
                return [Problem(f"/schedules/{index}/{field}", str(error))]
        return []

    async def remove(self, tenant: str, before: Definition, after: Definition | None) -> None:
        """Delete the schedules that a definition had and its next version has not.

        Args:
            after: None if the workflow was deleted.
        """
        kept = {spec.id for spec in after.schedules} if after else set[str]()
        for spec in before.schedules:
            stored = None if spec.id in kept else await self._stored(tenant, spec.id)
            if stored is not None and stored.workflow_id == before.id:
                await self._schedules.delete(tenant, spec.id)

    async def _stored(self, tenant: str, schedule_id: str) -> Schedule | None:
        try:
            return await self._schedules.get(tenant, schedule_id)
        except ScheduleNotFoundError:
            return None

    async def _input_problems(
        self, tenant: str, definition: Definition, index: int, spec: ScheduleSpec
    ) -> AsyncIterator[Problem]:
        found: Sequence[Problem] = ()
        try:
            # A check that keeps nothing: the version does not exist yet.
            await self._inputs.check_unstored(tenant, definition, spec.input)
        except InvalidInputError as error:
            found = error.problems
        for problem in found:
            yield Problem(join_pointer("/schedules", index) + problem.pointer, problem.detail)


def _schedule(workflow_id: str, spec: ScheduleSpec) -> Schedule:
    return Schedule(
        id=spec.id,
        workflow_id=workflow_id,
        cron=pattern_of(spec),
        time_zone=spec.time_zone,
        input=spec.input,
        created_at=0.0,
        overlap=spec.overlap,
    )
