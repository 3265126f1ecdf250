"""Run a workflow on the real scheduler in time that skips."""

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tailrace.definition_files import read_definition
from tailrace.testing.actions import Action
from tailrace.testing.attempts import Attempts
from tailrace.testing.replacements import Nodes, Replacements
from tailrace.testing.result import InvalidWorkflowError, Result
from tailrace.testing.world import World
from tailrace_shared.execution.events import Origin
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.workflow.node_types import NodeType
from tailrace_shared.workflow.validation import validate
from tailrace_worker.engine.decide.plan import Plan

START: Final = "2026-01-01T00:00:00.000Z"
"""When a run starts, unless the test says otherwise."""
_MAX_CACHED: Final = 256

Workflow = Mapping[str, Any] | str | os.PathLike[str] | Any
"""A definition, the path of its file, or a workflow of :mod:`tailrace.workflow`."""

# By a definition and the identities of node types, which each entry keeps alive.
_plans: dict[tuple[bytes, tuple[int, ...]], tuple[Plan, list[NodeType]]] = {}


def run(  # noqa: PLR0913 - options by name
    workflow: Workflow,
    input: Any = None,  # noqa: A002 - the name that it has everywhere
    *,
    nodes: Nodes = (),
    script: Sequence[Action] = (),
    workflows: Iterable[Workflow] = (),
    secrets: Mapping[str, str] | None = None,
    modules: str | None = None,
    start: str = START,
    scheduled_at: str | None = None,
    seed: int = 0,
) -> Result:
    """Run a workflow until it ends, or waits for a signal that the script does not send.

    Args:
        workflow: the definition, its file, or a workflow of :mod:`tailrace.workflow`.
        input: the input of the run; ``{}`` by default.
        nodes: replacements by node type: a function with the keys of ``with`` as parameters, an
            output, or an exception to raise. Or a list of node functions.
        script: decisions, triggers, commands and crashes.
        workflows: workflows that steps of the type ``workflow`` may start.
        secrets: values of secrets; those that are missing have their name as value.
        modules: modules of node functions, separated by commas; by default ``TAILRACE_NODES``.
        start: when the run starts (RFC 3339).
        scheduled_at: the time of the schedule's firing, for ``execution.scheduled_at``.
        seed: of the jitter of retries.

    Raises:
        InvalidWorkflowError: the definition or the input is not valid.
        ScriptError: an action of the script could not happen.
    """
    chosen = os.environ.get("TAILRACE_NODES", "") if modules is None else modules
    attempts = Attempts(secrets or {})
    replaced = Replacements(nodes, chosen, attempts.clock)
    attempts.use(replaced.registry)
    plan = plan_of(workflow, replaced.types)
    children = [plan_of(child, replaced.types) for child in workflows]
    world = World(plan, children, attempts, parse_timestamp(start), random.Random(seed))  # noqa: S311 - jitter
    origin = Origin(scheduled_at=scheduled_at)
    root = world.start(plan, {} if input is None else input, origin)
    world.play(root, script)
    return Result(plan.definition, root.state, root.log)


def plan_of(workflow: Workflow, types: Mapping[str, NodeType]) -> Plan:
    """Return the plan of a workflow, which is valid for these node types.

    Raises:
        InvalidWorkflowError: the definition is not valid.
    """
    if isinstance(workflow, str | os.PathLike):
        workflow = read_definition(Path(workflow))
    elif hasattr(workflow, "definition"):
        workflow = workflow.definition()
    encoded, known = msgspec.json.encode(workflow), list(types.values())
    key = (encoded, tuple(map(id, known)))
    if (cached := _plans.get(key)) is not None:
        return cached[0]
    validated = validate(msgspec.json.decode(encoded), types)
    if validated.definition is None:
        raise InvalidWorkflowError("the definition is not valid", validated.problems)
    if len(_plans) >= _MAX_CACHED:
        _plans.pop(next(iter(_plans)))
    plan = Plan(validated.definition)
    _plans[key] = (plan, known)
    return plan
