"""The types of the web client."""

from typing import Any

import msgspec

from tools.typescript import TARGET, typescript


def test_the_generated_types_are_current() -> None:
    """After a change of a route or an event: `just fmt`."""
    assert TARGET.read_text() == typescript()


def test_an_omitted_default_is_optional() -> None:
    """An answer without `omit_defaults` always has the field, a body need not."""
    text = typescript()
    assert "  readonly eta_ms: number | null;" in text  # of the run document
    assert "  readonly stage?: string | null;" in text  # of an event


def test_a_field_that_may_be_unset_is_optional() -> None:
    """Also without `omit_defaults`: such a field is absent from the answer."""
    text = typescript()
    assert "  readonly kept_from?: string;" in text  # of a step
    assert "  readonly cursor?: string;" in text  # of the list of workflows


def test_every_operation_of_the_api_has_a_route() -> None:
    text = typescript()
    for route in (
        "GET /api/v1/workflows/{workflow_id}/runs/{execution_id}",
        "POST /api/v1/executions/{execution_id}/resume",
        "GET /api/v1/executions/{execution_id}/steps/{step_id}/output",
    ):
        assert f"readonly {_quoted(route)}: {{" in text


def _quoted(value: Any) -> str:
    return msgspec.json.encode(value).decode()
