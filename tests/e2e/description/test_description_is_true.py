"""The API description matches the system, checked by schemathesis.

No response is a 5xx or has an undescribed status, content type, header or body. Requests that the
description rules out are refused, and protected operations need a token.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import APIOperation
from schemathesis import Case as AnyCase
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok

from harness.http.populated_api import PopulatedApi

# A compromise between coverage and the duration of a test run.
EXAMPLES: Final = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8"))
EVENT_STREAM: Final = "text/event-stream"

# Thousands of requests take minutes on a busy machine.
pytestmark = pytest.mark.timeout(400)

load_all_checks()
(ACCEPTANCE,) = CHECKS.get_by_names(["positive_data_acceptance"])

Case: TypeAlias = AnyCase[Any]
Operation: TypeAlias = APIOperation[Any, Any, Any, Any]

# What is described may still mean nothing: a cycle of nodes, a cron line of five fields, a node
# that there is not, a number of more than 64 bits. And two paths are, with another method, those of
# a dead letter and of a workflow so named.
EXCEPTIONS: Final = """
[[operations]]
include-path = [
    "/api/v1/workflows/{workflow_id}",
    "/api/v1/workflows/validate",
    "/api/v1/workflows/{workflow_id}/runs",
    "/api/workflow/execute",
    "/api/v1/triggers/{procedure}",
    "/api/v1/schedules",
    "/api/v1/sse/tickets",
    "/api/v1/executions/{execution_id}/rerun",
]
include-method = ["POST", "PUT"]
checks.positive_data_acceptance.enabled = false

# A cursor belongs to one list and its filter.
[[operations]]
include-path = [
    "/api/v1/executions",
    "/api/v1/workflows/{workflow_id}/runs",
    "/api/v1/waiting",
]
include-method = ["GET"]
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = ["/api/v1/dead-letters/replay", "/api/v1/workflows/validate"]
checks.unsupported_method.enabled = false
checks.allow_header_conformance.enabled = false
"""


def _streams(operation: Mapping[str, Any]) -> bool:
    answers = operation["responses"].values()
    return any(EVENT_STREAM in answer.get("content", {}) for answer in answers)


def _without_streams(document: dict[str, Any]) -> dict[str, Any]:
    paths = {
        path: {method: each for method, each in operations.items() if not _streams(each)}
        for path, operations in document["paths"].items()
    }
    return {**document, "paths": {path: each for path, each in paths.items() if each}}


def _ask(api: PopulatedApi, folder: Path, config: str, *options: str) -> None:
    (folder / "schemathesis.toml").write_text(config + EXCEPTIONS)
    (folder / "openapi.json").write_text(json.dumps(_without_streams(api.document)))
    headers = [f"--header={name}:{value}" for name, value in api.headers.items()]
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
        *("run", "openapi.json", "--url", api.url, "--phases", "examples,coverage,fuzzing"),
        *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-color"),
        *("--warnings", "off", "--request-timeout", "60", "--suppress-health-check", "all"),
        *(*headers, *options),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_responses_match_the_description_for_any_request(
    secured_api: PopulatedApi, tmp_path: Path
) -> None:
    """Requests are valid or slightly invalid, with and without a token."""
    _ask(secured_api, tmp_path, "")


def test_responses_match_the_description_for_existing_ids(
    open_api: PopulatedApi, tmp_path: Path
) -> None:
    """Path ids name existing resources; authentication is off."""
    known = "".join(f'"path.{name}" = "{value}"\n' for name, value in open_api.known.items())
    kept = ("--exclude-path", "/api/v1/workflows/{workflow_id}", "--exclude-method", "DELETE")
    _ask(open_api, tmp_path, f"[parameters]\n{known}", *kept)


def _stream_operations(api: PopulatedApi) -> Iterator[Operation]:
    schema = schemathesis.openapi.from_dict(api.document)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        if _streams((operation := found.ok()).definition.raw):
            yield operation


def test_streams_start_as_described(open_api: PopulatedApi) -> None:
    """They do not end, so their head and first blocks are checked."""
    operations = list(_stream_operations(open_api))
    assert operations

    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def begin(case: Case) -> None:
            _begin(case, open_api)

        begin()


def _begin(case: Case, api: PopulatedApi) -> None:
    if "execution_id" in case.path_parameters:
        case.path_parameters["execution_id"] = api.known["waiting_id"]
    request = case.as_transport_kwargs(base_url=api.url, headers=api.headers)
    for option in ("cookies", "files"):
        request.pop(option, None)
    with httpx.stream(**request, timeout=60) as answer:
        beginning = b""
        for piece in answer.iter_raw():
            beginning += piece
            if b"\n" in beginning:
                break
    if answer.headers.get("content-type", "").startswith(EVENT_STREAM):
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert beginning.startswith((b"retry: ", b":", b"data:", b"event:", b"id:"))
    head = [each for each in answer.headers.multi_items() if each[0] != "transfer-encoding"]
    begun = httpx.Response(
        answer.status_code, headers=head, content=beginning, request=answer.request
    )
    begun.elapsed = timedelta(0)
    excluded: list[Any] = [] if case.body is NOT_SET else [ACCEPTANCE]
    case.validate_response(begun, excluded_checks=excluded)


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_the_description_needs_no_token(secured_api: PopulatedApi, path: str) -> None:
    """Authors of clients need it first."""
    assert httpx.get(secured_api.url + path).status_code == 200
