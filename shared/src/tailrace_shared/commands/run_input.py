"""Validate the input of a run against the JSON Schema of its workflow version."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec
from jsonschema.protocols import Validator

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import ServiceError
from tailrace_shared.execution.events import MAX_VALUE_BYTES
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.schemas.defaults import has_defaults
from tailrace_shared.workflow.schemas.input_schema import (
    TOO_SLOW,
    Checked,
    check_value,
    compile_schema,
)
from tailrace_shared.workflow.schemas.schema_validator import INLINE_SECONDS
from tailrace_shared.workflow.validation import Problem

_MAX_SCHEMAS: Final = 256
_INLINE_BYTES: Final = 64 * 1024
"""Larger inputs are validated in a thread, so that they do not block the event loop."""


class _Schema(NamedTuple):
    validator: Validator
    has_defaults: bool


class InvalidInputError(ServiceError):
    """An input that its workflow does not accept."""

    def __init__(self, summary: str, problems: Sequence[Problem]) -> None:
        places = (f"{problem.pointer}: {problem.detail}" for problem in problems)
        super().__init__("; ".join([summary, *places]))
        self.summary = summary
        self.problems = problems


async def check_in_time(
    threads: FairThreads, tenant: str, validator: Validator, field: str, value: Any, size: int
) -> Checked:
    """Fill in defaults and validate, in a thread if it takes long.

    Args:
        field: the name of the value in its document.
        size: the size of the value in bytes of JSON.
    """
    left = MAX_VALUE_BYTES - size
    if size <= _INLINE_BYTES:
        checked = check_value(validator, field, value, left, INLINE_SECONDS)
        if all(problem.detail != TOO_SLOW for problem in checked.problems):
            return checked
    return await threads.run(tenant, check_value, validator, field, value, left)


class InputCheck:
    """Validates inputs. A version never changes, so its compiled schema is cached.

    Args:
        threads: validate what takes long.
    """

    def __init__(self, threads: FairThreads) -> None:
        self._schemas: TtlCache[tuple[str, str, int], _Schema] = TtlCache(_MAX_SCHEMAS)
        self._threads = threads

    async def check(self, tenant: str, workflow: StoredWorkflow, field: str, value: Any) -> Any:
        """Validate the input of a run, and return it with the defaults of its schema.

        Args:
            field: the name of the input in the request body, for error pointers.

        Raises:
            InvalidInputError: with every place where the input violates the schema.
        """
        size = len(msgspec.json.encode(value))
        if size > MAX_VALUE_BYTES:
            detail = f"the input is {size} bytes of JSON; the limit is {MAX_VALUE_BYTES}"
            raise InvalidInputError(detail, [Problem(join_pointer("", field), detail)])
        if workflow.definition.input is None:
            return value
        validator = self._schema(tenant, workflow).validator
        checked = await check_in_time(self._threads, tenant, validator, field, value, size)
        if checked.problems:
            raise InvalidInputError("the input is not what the workflow asks for", checked.problems)
        return checked.value

    async def check_unstored(self, tenant: str, definition: Definition, value: Any) -> None:
        """Validate an input for a definition that has no version yet.

        Raises:
            InvalidInputError: as :meth:`check`.
        """
        if definition.input is None:
            return
        size = len(msgspec.json.encode(value))
        validator = compile_schema(definition.input)
        checked = await check_in_time(self._threads, tenant, validator, "input", value, size)
        if checked.problems:
            raise InvalidInputError("the input is not what the workflow asks for", checked.problems)

    async def filled(self, tenant: str, workflow: StoredWorkflow, field: str, value: Any) -> Any:
        """Return an input that is valid with the defaults of its schema.

        Raises:
            InvalidInputError: as :meth:`check`.
        """
        if workflow.definition.input is None or not self._schema(tenant, workflow).has_defaults:
            return value
        return await self.check(tenant, workflow, field, value)

    def _schema(self, tenant: str, workflow: StoredWorkflow) -> _Schema:
        key = (tenant, workflow.definition.id, workflow.version)
        schema = self._schemas.get(key)
        if schema is None:
            definition = workflow.definition.input
            schema = _Schema(compile_schema(definition), has_defaults(definition))
            self._schemas.put(key, schema)
        return schema
