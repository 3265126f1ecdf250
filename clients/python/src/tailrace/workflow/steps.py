"""Functions that add steps of the shipped node types, and of any type by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, ParamSpec, TypeVar, cast

from tailrace.workflow.builder import StepOf, current, schema_of
from tailrace.workflow.expressions import Expression, source_of, steps_in

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The retry policy of a step; fields as in a definition."""

    max_attempts: int | None = None
    initial: str | None = None
    factor: float | None = None
    max: str | None = None
    jitter: bool | None = None

    def as_field(self) -> dict[str, Any]:
        """Return the fields that are set."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {key: value for key, value in values.items() if value is not None}


def options(function: Callable[P, R], **given: Any) -> Callable[P, R]:
    """Return a node function whose steps have options, in a form that type checkers know.

    Args:
        function: a function with ``@node``.
        given: ``id``, ``needs``, ``when``, ``join``, ``retry``, ``timeout``, ``stage`` and so on.
    """
    if isinstance(function, StepOf):
        return cast("Callable[P, R]", function.with_options(given))
    return cast("Callable[P, R]", StepOf(function, given))


def step(node_type: str, parameters: Mapping[str, Any] | None = None, **given: Any) -> Any:
    """Add a step of any type.

    Args:
        node_type: the type, as in a definition.
        parameters: the ``with`` of the step.
        given: its id and further options.
    """
    name = node_type.rpartition(".")[2].replace("-", "_")
    return current().add(node_type, parameters or {}, name, **given)


def transform(value: Any, **given: Any) -> Any:
    """Compute a JSON value."""
    return step("transform", {"value": value}, **given)


def log(message: Any, level: str | None = None, **given: Any) -> Any:
    """Write a line to the log of the run."""
    return step("log", _set(message=message, level=level), **given)


def fail(message: Any, **given: Any) -> Any:
    """Fail with a message."""
    return step("fail", {"message": message}, **given)


def delay(duration: Any = None, *, until: Any = None, **given: Any) -> Any:
    """Wait for a duration, or until a time."""
    return step("delay", _set(duration=duration, until=until), **given)


def emit(procedure: Any, data: Any = None, **given: Any) -> Any:
    """Send a trigger."""
    return step("emit", _set(procedure=procedure, data=data), **given)


def child(workflow: Any, input: Any = None, **given: Any) -> Any:  # noqa: A002 - the key of `with`
    """Run another workflow; its output is the output of the step."""
    workflow_id = (
        getattr(workflow, "id", workflow) if not isinstance(workflow, Expression) else workflow
    )
    return step("workflow", _set(id=workflow_id, input=input), **given)


def approval(
    id: str,  # noqa: A002 - as in a definition
    *,
    reason: Any = "approval",
    form: Any = None,
    on_reject: str | None = None,
    **given: Any,
) -> Any:
    """Wait for a person's decision; its output is ``{decision, data, actor, event}``.

    Args:
        form: the type of the data that is asked for, or its JSON Schema.
    """
    schema = form if form is None or isinstance(form, Mapping) else schema_of(form)
    parameters = _set(reason=reason, form=schema, on_reject=on_reject)
    return step("await", parameters, id=id, **given)


def wait_for(
    id: str,  # noqa: A002 - as in a definition
    triggers: str | Sequence[str],
    *,
    match: Expression | str | None = None,
    lookback: str | None = None,
    reason: Any = None,
    **given: Any,
) -> Any:
    """Wait for a trigger.

    Args:
        match: what its event must satisfy, as an expression over :data:`event`.
    """
    parameters = _set(
        reason=reason,
        triggers=[triggers] if isinstance(triggers, str) else list(triggers),
        match=match.source_.cel if isinstance(match, Expression) else match,
        lookback=lookback,
    )
    return step("await", parameters, id=id, **given)


def map_each(
    items: Any,
    work: Callable[[Any], Any],
    *,
    max_parallel: int | None = None,
    on_error: str | None = None,
    **given: Any,
) -> Any:
    """Run a step for each item of a list.

    Args:
        items: the list, as an expression.
        work: gets the item as an expression, and adds exactly one step.
    """
    builder = current()
    with builder.apart() as inner:
        work(Expression("item"))
    if len(inner) != 1:
        raise ValueError(f"the work of map_each must add exactly one step, not {len(inner)}")
    ((name, do),) = inner.items()
    needs = do.pop("needs", [])
    parameters = _set(
        for_each=source_of(items), do=do, max_parallel=max_parallel, on_error=on_error
    )
    declared_needs = [*given.pop("needs", ()), *needs]
    used = [each for each in builder.part if each in steps_in(items)]
    all_needs = list(dict.fromkeys([*declared_needs, *used]))
    return builder.add("map", parameters, f"each_{name}", needs=all_needs, **given)


class _Http:
    """Adds HTTP requests: ``http.post(url, json=…)``."""

    def __call__(self, method: str, url: Any, **given: Any) -> Any:
        parameters = {"method": method, "url": url}
        for key in ("headers", "query", "json", "body", "expect_status"):
            if key in given:
                parameters[key] = given.pop(key)
        given.setdefault("id", None)
        default_id = f"http_{method.lower()}"
        return current().add("http", parameters, default_id, **given)

    def get(self, url: Any, **given: Any) -> Any:
        """Add a GET request."""
        return self("GET", url, **given)

    def post(self, url: Any, **given: Any) -> Any:
        """Add a POST request."""
        return self("POST", url, **given)

    def put(self, url: Any, **given: Any) -> Any:
        """Add a PUT request."""
        return self("PUT", url, **given)

    def patch(self, url: Any, **given: Any) -> Any:
        """Add a PATCH request."""
        return self("PATCH", url, **given)

    def delete(self, url: Any, **given: Any) -> Any:
        """Add a DELETE request."""
        return self("DELETE", url, **given)


http: Final = _Http()
event: Final = Expression("event")
"""The event of a trigger, in ``match``."""
execution: Final = Expression("execution")
"""Facts of the run: ``id``, ``workflow``, ``started_at``, ``scheduled_at``."""
secrets: Final = Expression("secrets")


def _set(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
