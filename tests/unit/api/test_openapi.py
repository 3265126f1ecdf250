"""The API description and the page built from it."""

import html.parser
import json
import subprocess
from typing import Annotated, Any

import jsonschema_rs
import msgspec
import pytest
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.web.docs.docs_page import CONTENT_SECURITY_POLICY, docs_page
from tailrace_api.web.docs.openapi import openapi
from tailrace_api.web.operation import EVENT_STREAM, Answer, Operation, Parameter


class Wheel(msgspec.Struct):
    """A part of a mill.

    Attributes:
        paddles: how many ``paddles`` it has,
            all counted.
    """

    paddles: Annotated[int, Meta(ge=1)]
    turns: bool = False


class MillRoutes:
    """Routes to describe."""

    async def serve(self, _request: Request) -> Response:
        """Return an empty response."""
        return Response()

    def routes(self) -> list[Operation]:
        """Return one operation of each kind."""
        return [
            Operation(
                "PUT",
                "/api/v1/mills/{mill_id}",
                self.serve,
                scope="workflows:write",
                summary="Build a <mill>",
                answers={201: Answer(Wheel, "Built.", headers=("Location",))},
                problems=(409,),
                body=Wheel,
                parameters=(Parameter("depth", int, "How deep."),),
            ),
            Operation(
                "GET",
                "/api/v1/mills/{mill_id}",
                self.serve,
                scope="executions:read",
                summary="Watch a mill",
                answers={200: Answer(str, "Its events.", EVENT_STREAM)},
            ),
            Operation(
                "POST",
                "/api/v1/grindings",
                self.serve,
                scope="executions:write",
                summary="Grind, and watch it",
                answers={200: Answer(str, "Its events.", EVENT_STREAM)},
            ),
            Operation(
                "GET",
                "/openness",
                self.serve,
                scope=None,
                summary="Say hello",
                answers={204: Answer(None, "Hello.")},
            ),
        ]


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """The description of the routes above, as clients read it."""
    description: dict[str, Any] = json.loads(
        msgspec.json.encode(openapi(MillRoutes().routes(), "1"))
    )
    return description


def test_methods_are_grouped_by_path(described: dict[str, Any]) -> None:
    """Each has its own id."""
    mills = described["paths"]["/api/v1/mills/{mill_id}"]
    assert {method: each["operationId"] for method, each in mills.items()} == {
        "put": "put_mills_by_mill_id",
        "get": "get_mills_by_mill_id",
    }


def test_parameters_come_from_path_operation_and_tenant(
    described: dict[str, Any],
) -> None:
    """Ids have their pattern; public operations have no tenant."""
    paths = described["paths"]
    path_parameter, own, *tenant = paths["/api/v1/mills/{mill_id}"]["put"]["parameters"]
    assert (path_parameter["name"], path_parameter["in"]) == ("mill_id", "path")
    assert path_parameter["schema"]["pattern"] == "^[A-Za-z0-9_-]{1,64}$"
    # Forms send empty fields.
    assert own["schema"] == {"anyOf": [{"type": "integer"}, {"const": ""}]}
    assert own["name"] == "depth"
    assert [each["$ref"].rpartition("/")[2] for each in tenant] == [
        "X-Organization-ID",
        "organization_id",
        "merchantId",
    ]
    assert paths["/openness"]["get"]["parameters"] == []


def test_problems_follow_from_the_declaration(described: dict[str, Any]) -> None:
    """Body limits, missing tokens and declared problems."""
    paths = described["paths"]
    mill = paths["/api/v1/mills/{mill_id}"]
    assert {"201", "401", "403", "409", "413", "415", "422", "503"} <= set(mill["put"]["responses"])
    assert "413" not in mill["get"]["responses"]
    assert "401" not in paths["/openness"]["get"]["responses"]
    problem = described["components"]["responses"]["Problem409"]["content"]
    assert problem == {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    }


def test_tickets_are_documented_for_get_streams_only(described: dict[str, Any]) -> None:
    """POST streams have no tickets; public operations have no security scheme."""
    mill = described["paths"]["/api/v1/mills/{mill_id}"]
    assert {"ticket": ["executions:read"]} in mill["get"]["security"]
    assert "ticket" not in [name for each in mill["put"]["security"] for name in each]
    grinding = described["paths"]["/api/v1/grindings"]["post"]
    assert "ticket" not in [name for each in grinding["security"] for name in each]
    assert {} not in mill["put"]["security"]
    assert described["paths"]["/openness"]["get"]["security"] == []


def test_without_authentication_security_is_optional() -> None:
    """One of the requirements is empty."""
    description = openapi(MillRoutes().routes(), "1", needs_token=False)
    assert {} in description["paths"]["/api/v1/mills/{mill_id}"]["put"]["security"]


def test_attributes_of_a_struct_describe_its_fields(described: dict[str, Any]) -> None:
    """The docstring documents code and API."""
    wheel = described["components"]["schemas"]["Wheel"]
    assert wheel["description"] == "A part of a mill."
    paddles = wheel["properties"]["paddles"]
    assert paddles["description"] == "how many `paddles` it has, all counted."
    assert paddles["minimum"] == 1
    assert wheel["required"] == ["paddles"]


def test_streams_are_described_by_their_blocks(described: dict[str, Any]) -> None:
    """Blocks have the same fields in every dialect."""
    answer = described["paths"]["/api/v1/mills/{mill_id}"]["get"]["responses"]["200"]
    assert answer["content"] == {
        "text/event-stream": {"schema": {"$ref": "#/components/schemas/StreamBlock"}}
    }
    block = described["components"]["schemas"]["StreamBlock"]
    assert set(block["properties"]) == {"data", "event", "id", "retry"}


def test_every_schema_is_valid(described: dict[str, Any]) -> None:
    """The standard is JSON Schema 2020-12, which OpenAPI 3.1 uses."""
    for schema in described["components"]["schemas"].values():
        jsonschema_rs.meta.validate({**schema, "components": described["components"]})


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag != "meta":
            self.open.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_complete_without_scripts_or_resources(
    described: dict[str, Any],
) -> None:
    """All tags are closed, and all links lead to an anchor on the page."""
    reader = _Reader()
    reader.feed(docs_page(described))
    assert reader.open == []
    assert reader.tags.isdisjoint({"script", "link", "img", "iframe"})
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    assert {link for link in reader.links if not link.startswith("#")} == {"openapi.json"}
    assert "Build a <mill>" in reader.text
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY


def test_examples_are_valid_shell_commands(described: dict[str, Any]) -> None:
    """They include a required body."""
    reader = _Reader()
    reader.feed(docs_page(described))
    lines = [line for line in reader.text.split("curl ") if "/mills/" in line and "http" in line]
    assert len(lines) == 2
    put = next(f"curl {line}" for line in lines if "PUT" in line)
    command = put.partition("}'")[0] + "}'"
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {command}"],
        capture_output=True,
        text=True,
        check=True,
        env={"TAILRACE_TOKEN": "t0ken"},
    ).stdout.splitlines()
    assert "Authorization: Bearer t0ken" in words
    assert json.loads(words[-1]) == {"paddles": 1}
    assert any(line.startswith("-N ") for line in lines)
