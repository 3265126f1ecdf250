"""The recipes run in-process, in YAML and in Python, and both forms are equal definitions."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.documentation import blocks
from tailrace import testing
from tailrace.workflow.loading import load_workflows, python_of
from tailrace_worker.nodes import NodeFailedError


def forms_of(name: str, folder: Path) -> list[Any]:
    """Return the definition of a recipe's YAML, and that of its Python."""
    page = [f"docs/recipes/{name}.md"]
    (source,) = blocks(page, "python")
    file = folder / "flows.py"
    file.write_text(source.text)
    (compiled,) = load_workflows(file)
    return [yaml.safe_load(blocks(page, "yaml")[0].text), compiled]


@pytest.fixture(params=[0, 1], ids=["yaml", "python"])
def form(request: pytest.FixtureRequest) -> int:
    """Return which of the two forms a test runs."""
    return int(request.param)


@pytest.fixture
def saga(form: int, tmp_path: Path) -> Any:
    """Return the recipe."""
    return forms_of("saga", tmp_path)[form]


@pytest.fixture
def etl(form: int, tmp_path: Path) -> Any:
    """Return the recipe."""
    return forms_of("nightly-etl", tmp_path)[form]


@pytest.fixture
def intake(form: int, tmp_path: Path) -> Any:
    """Return the recipe."""
    return forms_of("document-intake", tmp_path)[form]


@pytest.mark.parametrize("name", ["saga", "nightly-etl", "document-intake"])
def test_a_recipe_is_the_same_in_both_forms(name: str, tmp_path: Path):
    """In YAML and in Python; and back."""
    definition, compiled = forms_of(name, tmp_path)
    assert compiled == definition
    file = tmp_path / "again.py"
    file.write_text(python_of(definition))
    assert load_workflows(file) == [definition]


class Hotel:
    """Answers the requests of the saga.

    Attributes:
        requests: the method and the URL of each.
    """

    def __init__(self, charges: bool) -> None:
        self.requests: list[tuple[str, str]] = []
        self._charges = charges

    def http(self, method: str, url: str, json: Any = None) -> dict[str, Any]:
        """Answer a request."""
        self.requests.append((method, url))
        if "charges" in url and not self._charges:
            raise NodeFailedError("the card was declined", retryable=False)
        return {"status": 200, "headers": {}, "body": {"id": f"r-{json and json.get('room')}"}}


BOOKING = {"room": 7, "amount": 90}


def test_a_saga_that_succeeds_undoes_nothing(saga: Any):
    hotel = Hotel(charges=True)
    result = testing.run(saga, BOOKING, nodes={"http": hotel.http})
    assert result.status == "completed"
    assert [method for method, _url in hotel.requests] == ["POST", "POST"]
    assert result.steps["release"].status == "skipped"


def test_a_saga_releases_what_it_has_reserved(saga: Any):
    hotel = Hotel(charges=False)
    result = testing.run(saga, BOOKING, nodes={"http": hotel.http})
    assert (result.status, result.error) == ("failed", "charge: the card was declined")
    assert hotel.requests[-1] == ("DELETE", "https://hotel.example.com/reservations/r-7")
    assert result.steps["release"].status == "success"


def test_a_saga_that_has_reserved_nothing_releases_nothing(saga: Any):
    result = testing.run(saga, BOOKING, nodes={"http": NodeFailedError("no room")})
    assert (result.status, result.error) == ("failed", "reserve: no room")
    assert result.steps["reserve"].attempts == 3
    assert result.steps["release"].status == "skipped"


def test_the_tables_of_a_night_are_loaded_once(etl: Any):
    loaded = []

    def load(files: list[str]) -> int:
        loaded.append(files)
        return len(files)

    nodes = {"etl.extract": lambda table: f"{table}.csv", "etl.load": load, "http": {}}
    result = testing.run(etl, {"tables": ["orders", "customers"]}, nodes=nodes)
    assert result.status == "completed"
    assert loaded == [["orders.csv", "customers.csv"]]
    assert result.steps["alert"].status == "skipped"


def test_a_night_that_fails_is_reported(etl: Any):
    """After all attempts; the token of the chat is a secret."""
    sent: list[Any] = []

    def http(url: str, headers: Any, json: Any) -> dict[str, Any]:
        sent.append((url, headers, json))
        return {"status": 200}

    nodes = {"etl.extract": NodeFailedError("no disk"), "etl.load": 1, "http": http}
    result = testing.run(etl, {"tables": ["orders"]}, nodes=nodes, secrets={"chat_token": "t0ken"})
    assert result.status == "failed"
    assert result.steps["extract[0]"].attempts == 5
    assert result.steps["load"].status == "skipped"
    ((url, headers, json),) = sent
    assert url == "https://chat.example.com/hooks/etl"
    assert headers == {"authorization": "Bearer t0ken"}
    assert re.fullmatch("ETL .+ failed", json["text"])


def parsed(total: float) -> dict[str, Any]:
    """Return replacements of the node types for an order of that total."""
    shipped = {"status": 201, "headers": {}, "body": {"id": "s-1"}}
    return {"documents.parse": {"id": "po-1", "total": total}, "http": shipped}


def announced(result: testing.Result) -> list[str]:
    """Return the messages of ``finally``."""
    logged = [event.data for event in result.events if event.type == "step:log"]
    return [data["message"] for data in logged if data["node_id"] == "announce"]


def test_a_small_order_is_shipped_at_once(intake: Any):
    result = testing.run(intake, {"file": "po.csv"}, nodes=parsed(20.0))
    assert (result.status, result.output) == ("completed", {"order": "po-1", "shipment": "s-1"})
    assert result.steps["approve"].status == "skipped"
    assert announced(result) == ["po.csv: parsed success, shipped success"]


def test_a_large_order_waits_for_its_approval(intake: Any):
    script = [testing.after("23h", testing.approve("approve", by="ada"))]
    result = testing.run(intake, {"file": "po.csv"}, nodes=parsed(20_000.0), script=script)
    assert result.status == "completed"
    assert result.steps["approve"].output["actor"] == "ada"
    assert result.seconds == pytest.approx(23 * 3600)


def test_an_order_that_is_rejected_is_not_shipped(intake: Any):
    script = [testing.reject("approve", by="ada")]
    result = testing.run(intake, {"file": "po.csv"}, nodes=parsed(20_000.0), script=script)
    assert result.status == "failed"
    assert announced(result) == ["po.csv: parsed success, shipped skipped"]


def test_an_order_that_nothing_decides_is_announced_as_well(intake: Any):
    """A day later the approval has timed out."""
    result = testing.run(intake, {"file": "po.csv"}, nodes=parsed(20_000.0))
    assert result.status == "failed"
    assert result.steps["approve"].error == "timed out after 24h"
    assert announced(result) == ["po.csv: parsed success, shipped skipped"]
