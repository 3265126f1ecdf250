"""Validate the input of a run against the JSON Schema of its workflow version."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from jsonschema.protocols import Validator

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import ServiceError
from tailrace_shared.execution.events import MAX_VALUE_BYTES
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.schemas.input_schema import compile_schema, violations
from tailrace_shared.workflow.schemas.schema_validator import INLINE_SECONDS
from tailrace_shared.workflow.validation import Problem

_MAX_SCHEMAS: Final = 256
_INLINE_BYTES: Final = 64 * 1024
"""Larger inputs are validated in a thread, so that they do not block the event loop."""


class InvalidInputError(ServiceError):
    """An input that its workflow does not accept."""

    def __init__(self, summary: str, problems: Sequence[Problem]) -> None:
        places = (f"{problem.pointer}: {problem.detail}" for problem in problems)
        super().__init__("; ".join([summary, *places]))
        self.summary = summary
        self.problems = problems


class InputCheck:
    """Validates inputs. A version never changes, so its compiled schema is cached."""

    def __init__(self) -> None:
        self._validators: TtlCache[tuple[str, str, int], Validator] = TtlCache(_MAX_SCHEMAS)

    async def check(self, tenant: str, workflow: StoredWorkflow, field: str, value: Any) -> None:
        """Validate the input of a run.

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
            return
        validator = self._validator(tenant, workflow)
        if size <= _INLINE_BYTES:
            problems = violations(validator, field, value, INLINE_SECONDS)
        else:
            problems = await asyncio.to_thread(violations, validator, field, value)
        if problems:
            raise InvalidInputError("the input is not what the workflow asks for", problems)

    def _validator(self, tenant: str, workflow: StoredWorkflow) -> Validator:
        key = (tenant, workflow.definition.id, workflow.version)
        validator = self._validators.get(key)
        if validator is None:
            validator = compile_schema(workflow.definition.input)
            self._validators.put(key, validator)
        return validator
