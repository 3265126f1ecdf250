"""Validation of workflow definitions reports all problems with their positions."""

import socket
from itertools import pairwise

import msgspec
import pytest

from harness.models.invalid_definitions import DO, TRANSFORM, TYPES, problems_of, problems_of_node
from tailrace_shared.workflow.definition import ItemWork, Node, decode_definition, encode_definition
from tailrace_shared.workflow.graph import graph_of
from tailrace_shared.workflow.parameters import _NULLABLE_FIELDS as _ITEM_NULLABLE
from tailrace_shared.workflow.validation import _NULLABLE_FIELDS as _NODE_NULLABLE
from tailrace_shared.workflow.validation import (
    MAX_BYTES,
    MAX_HINTS,
    MAX_NODES,
    MAX_PROBLEMS,
    validate,
)


def test_a_valid_definition_has_no_problems():
    """The definition uses every field."""
    document = {
        "id": "purchase-order",
        "name": "Purchase order",
        "description": "…",
        "input": {"type": "object", "required": ["file"]},
        "output": {"total": "${nodes.parse.output.total}"},
        "concurrency": {"limit": 5, "key": "input.customer", "on_limit": "cancel_running"},
        "nodes": {
            "parse": {
                "type": "po.parse",
                "name": "Parse",
                "with": {"file": "${input.file}"},
                "stage": "ai_parsing",
                "retry": {
                    "max_attempts": 3,
                    "initial": "500ms",
                    "factor": 2,
                    "max": "30s",
                    "jitter": True,
                },
                "timeout": "30s",
                "on_crash": "fail",
            },
            "approve": {
                "type": "await",
                "needs": ["parse"],
                "with": {
                    "reason": "approval of ${input.file}",
                    "triggers": ["approvals.po.approved", "approvals.po-2.approved"],
                    "match": "event.po == input.po && nodes.parse.output.total > 1.0",
                    "lookback": "1h",
                    "form": {"type": "object", "properties": {"comment": {"type": "string"}}},
                    "on_reject": "fail",
                },
                "timeout": "24h",
                "on_timeout": "cancel",
            },
            "hold": {"type": "await"},
            "pages": {
                "type": "map",
                "needs": ["parse"],
                "with": {
                    "for_each": "nodes.parse.output.pages",
                    "do": {
                        "type": "po.parse",
                        "with": {"file": "${item.file}", "pages": "${index + 1}"},
                        "retry": {"max_attempts": 2},
                        "timeout": "1m",
                        "on_crash": "fail",
                    },
                    "max_parallel": 20,
                    "on_error": "collect",
                },
            },
            "child": {"type": "workflow", "with": {"id": "invoice", "input": "${input}"}},
            "tell": {"type": "emit", "with": {"procedure": "po.done", "data": {"po": 1}}},
            "ship": {
                "type": "http",
                "needs": ["parse"],
                "when": "nodes.parse.output.total > 10000.0",
                "join": "all_done",
                "with": {"method": "POST", "url": "https://x", "json": "${nodes.parse.output}"},
            },
        },
    }
    definition, problems = validate(document, TYPES)
    assert problems == []
    assert definition is not None
    assert decode_definition(encode_definition(definition)) == definition
    assert definition.nodes["parse"].timeout_seconds == 30


@pytest.mark.parametrize(
    ("document", "place", "words"),
    [
        (None, "", "a definition must be an object"),
        ([], "", "a definition must be an object"),
        ({"nodes": {"n": TRANSFORM}}, "", "the field 'id' is missing"),
        ({"id": "w"}, "", "the field 'nodes' is missing"),
        ({"id": "w", "nodes": {}}, "/nodes", "at least one node"),
        ({"id": "w", "nodes": 5}, "/nodes", "nodes must be an object"),
        ({"id": "w", "nodes": {"n": 5}}, "/nodes/n", "a node must be an object"),
        ({"id": "a.b", "nodes": {"n": TRANSFORM}}, "/id", "1 to 64 letters"),
        ({"id": "x" * 65, "nodes": {"n": TRANSFORM}}, "/id", "1 to 64 letters"),
        ({"id": 7, "nodes": {"n": TRANSFORM}}, "/id", "1 to 64 letters"),
        ({"id": "w", "nodes": {"a/b~": TRANSFORM}}, "/nodes/a~1b~0", "a node id must be 1 to 64"),
        ({"id": "w", "nodes": {"": TRANSFORM}}, "/nodes/", "a node id must be 1 to 64"),
        ({"id": "w", "nods": 1, "nodes": {"n": TRANSFORM}}, "/nods", "did you mean 'nodes'?"),
        ({"id": "w", "name": 5, "nodes": {"n": TRANSFORM}}, "/name", "must be a string"),
        ({"id": "w", "output": "${1 +}", "nodes": {"n": TRANSFORM}}, "/output", "(column 4)"),
        ({"id": "w", "output": "${nodes.m}", "nodes": {"n": TRANSFORM}}, "/output", "no node 'm'"),
        ({"id": "w", "input": {"type": "strng"}, "nodes": {"n": TRANSFORM}}, "/input/type", "JSON"),
        *(
            ({"id": "w", "concurrency": value, "nodes": {"n": TRANSFORM}}, place, words)
            for value, place, words in [
                (5, "/concurrency", "concurrency must be an object with the fields limit, key"),
                ({}, "/concurrency", "the field 'limit' is missing"),
                ({"limit": 0}, "/concurrency/limit", "must be from 1 to 1000"),
                ({"limit": 1001}, "/concurrency/limit", "must be from 1 to 1000"),
                ({"limit": 1.5}, "/concurrency/limit", "must be an integer"),
                ({"limit": 1, "kee": ""}, "/concurrency/kee", "did you mean 'key'?"),
                ({"limit": 1, "key": 5}, "/concurrency/key", "must be a string (CEL)"),
                ({"limit": 1, "key": "1 +"}, "/concurrency/key", "(column 4)"),
                ({"limit": 1, "key": "${input.x}"}, "/concurrency/key", "remove ${ and }"),
                (
                    {"limit": 1, "key": "nodes.n.output"},
                    "/concurrency/key",
                    "unknown name 'nodes': an expression may use input here",
                ),
                ({"limit": 1, "on_limit": "que"}, "/concurrency/on_limit", "mean 'queue'?"),
            ]
        ),
    ],
)
def test_a_problem_of_the_document_is_reported_at_its_position(document, place, words):
    """Each error gives exactly one problem."""
    ((found, detail),) = problems_of(document)
    assert found == place
    assert words in detail


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        (
            {"type": "transfrm"},
            "/type",
            "no worker provides the node type 'transfrm', did you mean",
        ),
        ({"type": 5}, "/type", "a node type must be a name"),
        ({"type": "a..b"}, "/type", "a node type must be a name"),
        ({"name": 5}, "/name", "must be a string"),
        ({"stage": []}, "/stage", "must be a string"),
        ({"need": []}, "/need", "unknown field 'need', did you mean 'needs'?"),
        ({"needs": "m"}, "/needs", "needs must be a list"),
        ({"needs": [5]}, "/needs/0", "needs must be a list"),
        ({"needs": ["m"]}, "/needs/0", "there is no node 'm'"),
        ({"needs": ["n"]}, "/needs", "cycle: n → n"),
        (
            {"join": "al"},
            "/join",
            "must be one of all, any, all_done, all_success, did you mean 'all'?",
        ),
        ({"join": ["all"]}, "/join", "must be one of all, any, all_done"),
        ({"timeout": "soon"}, "/timeout", "'soon' is not a duration"),
        ({"timeout": 5}, "/timeout", "'5' is not a duration"),
        ({"timeout": "0s"}, "/timeout", "must be greater than zero"),
        ({"timeout": " 0.0ms "}, "/timeout", "must be greater than zero"),
        ({"timeout": "9" * 400 + "d"}, "/timeout", "longer than 36500d"),
        ({"retry": 3}, "/retry", "retry must be an object"),
        ({"retry": {"max_attempt": 3}}, "/retry/max_attempt", "did you mean 'max_attempts'?"),
        ({"retry": {"max_attempts": 0}}, "/retry/max_attempts", "must be from 1 to 1000"),
        ({"retry": {"max_attempts": 2.5}}, "/retry/max_attempts", "must be an integer"),
        ({"retry": {"max_attempts": True}}, "/retry/max_attempts", "must be an integer"),
        ({"retry": {"factor": "2"}}, "/retry/factor", "must be a number"),
        ({"retry": {"factor": 0.5}}, "/retry/factor", "must be from 1 to 100"),
        ({"retry": {"initial": "x"}}, "/retry/initial", "is not a duration"),
        ({"retry": {"max": 30}}, "/retry/max", "is not a duration"),
        ({"retry": {"jitter": "yes"}}, "/retry/jitter", "must be true or false"),
        ({"when": 5}, "/when", "an expression must be a string"),
        ({"when": "input.n >"}, "/when", "not valid CEL: mismatched input '<EOF>' (column 10)"),
        ({"when": "inptu.n > 1"}, "/when", "unknown name 'inptu', did you mean 'input'?"),
        ({"when": "nodes.m.output"}, "/when", "there is no node 'm'"),
        ({"when": "nodes.n.output"}, "/when", "'n' may not have run before 'n'"),
        ({"with": []}, "/with", "with must be an object"),
        ({"with": {}}, "/with", "the field 'value' is missing"),
        ({"with": {"value": 1, "valu": 2}}, "/with/valu", "did you mean 'value'?"),
        ({"with": {"value": {"a/b": ["${1 +}"]}}}, "/with/value/a~1b/0", "(column 4)"),
        ({"with": {"value": "${"}}, "/with/value", "without a matching '}'"),
        ({"with": {"value": "${item}"}}, "/with/value", "unknown name 'item'"),
        ({"with": {"value": "${event}"}}, "/with/value", "unknown name 'event'"),
        ({"on_crash": "rerty"}, "/on_crash", "must be one of retry, fail, did you mean 'retry'?"),
        ({"on_timeout": "fail"}, "/on_timeout", "on_timeout is allowed on await only"),
        ({"when": "${input.n > 1}"}, "/when", "remove ${ and }"),
    ],
)
def test_a_problem_of_a_node_is_reported_at_its_position(fields, place, words):
    """Each error in any field gives exactly one problem."""
    ((found, detail),) = problems_of_node(**fields)
    assert found == place
    assert words in detail


@pytest.mark.parametrize(
    ("node", "place", "words"),
    [
        ({"type": "http", "with": {}}, "/with", "the field 'url' is missing"),
        ({"type": "http", "with": {"url": "x", "method": "GTE"}}, "/with/method", "mean 'GET'?"),
        ({"type": "http", "with": {"url": 5}}, "/with/url", "must be a string"),
        ({"type": "http", "with": {"url": "x", "query": []}}, "/with/query", "must be an object"),
        (
            {"type": "http", "with": {"url": "x", "query": {"f": {"a": True}}}},
            "/with/query/f",
            "must be a text, number, boolean, null or a list of them",
        ),
        (
            {"type": "http", "with": {"url": "x", "headers": {"a": ["b"]}}},
            "/with/headers/a",
            "must be a text, number, boolean or null",
        ),
        (
            {"type": "http", "with": {"url": "x", "headers": {"a": "é"}}},
            "/with/headers/a",
            "printable ASCII",
        ),
        (
            {"type": "http", "with": {"url": "x", "expect_status": "200"}},
            "/with/expect_status",
            "must be an HTTP status",
        ),
        (
            {"type": "http", "with": {"url": "x", "expect_status": [200, 20]}},
            "/with/expect_status/1",
            "must be an HTTP status",
        ),
        ({"type": "http"}, "", "the field 'with' is missing: http requires url"),
        ({"type": "delay"}, "", "one of duration or until"),
        ({"type": "map"}, "", "map requires for_each, do"),
        ({"type": "delay", "with": {}}, "/with", "one of duration or until"),
        (
            {"type": "delay", "with": {"duration": "1s", "until": "${input.x}"}},
            "/with",
            "requires exactly one of",
        ),
        ({"type": "delay", "with": {"duration": "1y"}}, "/with/duration", "is not a duration"),
        ({"type": "delay", "with": {"until": "noon"}}, "/with/until", "RFC 3339"),
        ({"type": "delay", "with": {"until": "2024-01-15T10:30:00"}}, "/with/until", "RFC 3339"),
        ({"type": "log", "with": {"message": 1, "level": "warn"}}, "/with/level", "'warning'?"),
        ({"type": "simulate", "with": {"progress": 1}}, "/with/progress", "true or false"),
        ({"type": "simulate", "with": {"fail_rate": "x"}}, "/with/fail_rate", "must be a number"),
        ({"type": "simulate", "with": {"seed": 1.5}}, "/with/seed", "must be an integer"),
        ({"type": "po.parse", "with": {"pages": 1}}, "/with", "the field 'file' is missing"),
        ({"type": "await", "with": {"resaon": "x"}}, "/with/resaon", "did you mean 'reason'?"),
        ({"type": "await", "with": {"reason": 5}}, "/with/reason", "must be a string"),
        ({"type": "await", "with": {"triggers": "a"}}, "/with/triggers", "a list of procedures"),
        ({"type": "await", "with": {"triggers": ["a", "a..b"]}}, "/with/triggers/1", "joined by"),
        ({"type": "await", "with": {"triggers": ["a" * 129]}}, "/with/triggers/0", "128"),
        ({"type": "await", "with": {"triggers": [5]}}, "/with/triggers/0", "ids joined by dots"),
        ({"type": "await", "with": {"triggers": ["a"] * 101}}, "/with/triggers", "limit is 100"),
        ({"type": "await", "with": {"match": "event.x =="}}, "/with/match", "(column 11)"),
        ({"type": "await", "with": {"match": "evnt.x"}}, "/with/match", "did you mean 'event'?"),
        ({"type": "await", "with": {"match": "item"}}, "/with/match", "unknown name 'item'"),
        ({"type": "await", "with": {"match": "nodes.m.output"}}, "/with/match", "no node 'm'"),
        (
            {"type": "await", "with": {"match": "event.x == '${'"}},
            "/with/match",
            "expressions are not evaluated here",
        ),
        ({"type": "await", "with": {"lookback": "-1s"}}, "/with/lookback", "is not a duration"),
        ({"type": "await", "with": {"lookback": "25h"}}, "/with/lookback", "not be longer than 1d"),
        ({"type": "await", "with": {"form": {"type": "objct"}}}, "/with/form/type", "JSON Schema"),
        ({"type": "await", "with": {"form": {"const": "x" * 65536}}}, "/with/form", "the limit is"),
        (
            {"type": "await", "with": {"form": {"title": "${x}"}}},
            "/with/form",
            "expressions are not evaluated here",
        ),
        ({"type": "await", "with": {"on_reject": "cancel"}}, "/with/on_reject", "continue, fail"),
        ({"type": "await", "timeout": "0s"}, "/timeout", "must be greater than zero"),
        ({"type": "await", "on_timeout": "contineu"}, "/on_timeout", "did you mean 'continue'?"),
        ({"type": "workflow", "with": {}}, "/with", "the field 'id' is missing"),
        ({"type": "workflow", "with": {"id": "a.b"}}, "/with/id", "1 to 64 letters"),
        ({"type": "emit", "with": {"procedure": "a b"}}, "/with/procedure", "joined by dots"),
    ],
)
def test_parameters_of_node_types_are_checked(node, place, words):
    """Each kind of parameter, for built-in and custom types."""
    found = problems_of({"id": "w", "nodes": {"n": node}})
    assert [at for at, _ in found][-1] == f"/nodes/n{place}"
    assert words in found[-1][1]


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"with": {"do": DO}}, "/with", "the field 'for_each' is missing"),
        ({"with": {"for_each": "input.x"}}, "/with", "the field 'do' is missing"),
        ({"for_each": 5}, "/with/for_each", "an expression must be a string"),
        ({"for_each": "${input.x}"}, "/with/for_each", "remove ${ and }"),
        ({"for_each": "input.x +"}, "/with/for_each", "(column 10)"),
        ({"for_each": "item"}, "/with/for_each", "unknown name 'item'"),
        ({"for_each": "nodes.n.output"}, "/with/for_each", "'n' may not have run before 'n'"),
        ({"max_parallel": 0}, "/with/max_parallel", "must be from 1 to 1000"),
        ({"max_parallel": "${input.n}"}, "/with/max_parallel", "must be an integer"),
        ({"on_error": "ignore"}, "/with/on_error", "must be one of fail, collect"),
        ({"do": "po.parse"}, "/with/do", "do must be an object"),
        ({"do": {"with": {}}}, "/with/do", "the field 'type' is missing"),
        ({"do": {**DO, "needs": []}}, "/with/do/needs", "unknown field 'needs'"),
        ({"do": {"type": "po.prase"}}, "/with/do/type", "did you mean 'po.parse'?"),
        ({"do": {"type": "map"}}, "/with/do/type", "a map cannot run map for its items"),
        ({"do": {"type": "await"}}, "/with/do/type", "a map cannot run await for its items"),
        (
            {"do": {"type": "po.parse"}},
            "/with/do",
            "the field 'with' is missing: po.parse requires",
        ),
        ({"do": {**DO, "with": 5}}, "/with/do/with", "with must be an object"),
        ({"do": {**DO, "with": {}}}, "/with/do/with", "the field 'file' is missing"),
        ({"do": {**DO, "with": {"file": "${itm}"}}}, "/with/do/with/file", "mean 'item'?"),
        (
            {"do": {**DO, "with": {"file": "${event}"}}},
            "/with/do/with/file",
            "unknown name 'event'",
        ),
        ({"do": {**DO, "retry": {"max_attempts": 0}}}, "/with/do/retry/max_attempts", "from 1"),
        ({"do": {**DO, "timeout": "0s"}}, "/with/do/timeout", "must be greater than zero"),
        ({"do": {**DO, "on_crash": "x"}}, "/with/do/on_crash", "must be one of retry, fail"),
        ({"retry": {"max_attempts": 2}}, "/retry", "put it into with.do"),
        ({"timeout": "5s"}, "/timeout", "put it into with.do"),
        ({"on_crash": "fail"}, "/on_crash", "put it into with.do"),
        ({"on_timeout": "fail"}, "/on_timeout", "on_timeout is allowed on await only"),
    ],
)
def test_a_problem_of_a_map_is_reported_at_its_position(fields, place, words):
    """The work of a map is checked like a node."""
    of_node = {"with", "retry", "timeout", "on_crash", "on_timeout"}
    takes = {key: value for key, value in fields.items() if key not in of_node}
    node = {
        "type": "map",
        "with": {"for_each": "input.x", "do": DO, **takes},
        **{key: value for key, value in fields.items() if key in of_node},
    }
    ((found, detail),) = problems_of({"id": "w", "nodes": {"n": node}})
    assert found == f"/nodes/n{place}"
    assert words in detail


def test_the_work_of_a_map_may_use_nodes_that_ran_before_the_map():
    """Other nodes are refused."""
    do = {"type": "transform", "with": {"value": "${nodes.a.output + nodes.b.output + item}"}}
    nodes = {
        "a": TRANSFORM,
        "b": TRANSFORM,
        "m": {"type": "map", "needs": ["a"], "with": {"for_each": "input.x", "do": do}},
    }
    assert problems_of({"id": "w", "nodes": nodes}) == [
        (
            "/nodes/m/with/do/with/value",
            "'b' may not have run before 'm': add it to the needs of 'm'",
        )
    ]


def test_any_parameter_may_be_an_expression():
    """The type of its value is not known before it is evaluated."""
    node = {"type": "delay", "with": {"duration": "${input.wait}"}}
    assert problems_of({"id": "w", "nodes": {"n": node}}) == []


def test_the_values_of_a_request_may_be_expressions():
    """They are checked before the request."""
    request = {
        "url": "${input.url}",
        "headers": {"a": "${'é'}", "b": True, "c": None},
        "query": {"a": ["${input.a}", 1], "b": None},
        "expect_status": [200, "${input.status}"],
    }
    assert problems_of_node(type="http", **{"with": request}) == []
    assert problems_of_node(type="http", **{"with": {**request, "headers": "${input.h}"}}) == []


def test_an_open_node_type_takes_any_parameter():
    """A custom function with ``**fields`` is open."""
    node = {"type": "anything", "with": {"a": 1, "b": "${input.b}"}}
    assert problems_of({"id": "w", "nodes": {"n": node}}) == []


def test_every_problem_is_reported_at_once():
    """Problems of the structure, the expressions and the graph are reported together."""
    document = {
        "id": "no good",
        "nodes": {
            "a": {"type": "transform", "with": {"value": "${1 +}"}, "needs": ["c"]},
            "b": {"type": "nope", "needs": ["a", "zz"], "timeout": "x"},
            "c": {**TRANSFORM, "needs": ["b"], "when": "nodes.gone.output"},
        },
        "extra": 1,
    }
    assert sorted(place for place, _ in problems_of(document)) == [
        "/extra",
        "/id",
        "/nodes/a/needs",
        "/nodes/a/with/value",
        "/nodes/b/needs/1",
        "/nodes/b/timeout",
        "/nodes/b/type",
        "/nodes/c/when",
    ]


def test_a_cycle_names_its_nodes_in_order():
    """Each node needs the one before it."""
    needs = {"a": ["c"], "b": ["a"], "c": ["b"], "d": ["a"]}
    nodes = {node: {**TRANSFORM, "needs": needs[node]} for node in needs}
    ((place, detail),) = problems_of({"id": "w", "nodes": nodes})
    circle = detail.rpartition(": ")[2].split(" → ")
    assert circle[0] == circle[-1]
    assert set(circle) == {"a", "b", "c"}
    assert all(before in needs[after] for before, after in pairwise(circle))
    assert place == f"/nodes/{circle[-1]}/needs"


def test_an_expression_may_only_use_nodes_that_ran_before():
    """The output may use all nodes, and a node only its ancestors."""
    nodes = {
        "a": TRANSFORM,
        "b": {**TRANSFORM, "needs": ["a"]},
        "c": {**TRANSFORM, "needs": ["b"], "when": "nodes.a.output == 1"},
        "d": {**TRANSFORM, "when": "nodes.a.output == 1"},
    }
    document = {"id": "w", "output": "${nodes.c.output}", "nodes": nodes}
    assert problems_of(document) == [
        ("/nodes/d/when", "'a' may not have run before 'd': add it to the needs of 'd'")
    ]


def test_the_id_must_match_the_stored_id():
    """The id may be omitted if it is known from the request."""
    nodes = {"n": TRANSFORM}
    assert problems_of({"nodes": nodes}, workflow_id="w") == []
    ((place, _),) = problems_of({"id": "v", "nodes": nodes}, workflow_id="w")
    assert place == "/id"


class TestLimits:
    """Limits of size and time."""

    def test_ten_thousand_nodes_are_checked_in_seconds(self):
        """Each node in the chain uses the output of the one before it."""
        nodes = {
            f"n{i}": {
                "type": "transform",
                "with": {"value": f"${{nodes.n{i - 1}.output}}" if i else 0},
                "needs": [f"n{i - 1}"] if i else [],
            }
            for i in range(MAX_NODES)
        }
        definition, problems = validate({"id": "w", "nodes": nodes})
        assert problems == []
        assert definition is not None
        assert len(graph_of(definition).layers()) == MAX_NODES

    def test_one_more_node_is_too_many(self):
        """The limit is reported once, without checking each node."""
        nodes = {f"n{i}": TRANSFORM for i in range(MAX_NODES + 1)}
        assert problems_of({"id": "w", "nodes": nodes}) == [
            ("/nodes", "10001 nodes; the limit is 10000")
        ]

    def test_a_definition_has_at_most_one_mebibyte(self):
        """The limit applies to the canonical form."""
        text = "x" * MAX_BYTES
        ((place, detail),) = problems_of_node(**{"with": {"value": text}})
        assert place == ""
        assert f"the limit is {MAX_BYTES}" in detail

    def test_problems_and_hints_are_limited(self):
        """Unlimited hints for ten thousand typos would take minutes."""
        nodes = {f"n{i}": {**TRANSFORM, "needs": [f"m{i}"]} for i in range(MAX_NODES)}
        problems = problems_of({"id": "w", "nodes": nodes})
        assert len(problems) == MAX_PROBLEMS
        assert sum("did you mean" in detail for _, detail in problems) <= MAX_HINTS


class TestInputSchemas:
    """The JSON Schema of a workflow's input."""

    @pytest.mark.parametrize(
        ("schema", "place"),
        [
            (5, "/input"),
            ({"properties": {"a/b": {"type": "strng"}}}, "/input/properties/a~1b/type"),
            ({"pattern": "("}, "/input/pattern"),
            ({"minimum": "1"}, "/input/minimum"),
            ({"$ref": 5}, "/input/$ref"),
            ({"$ref": "#/$defs/gone"}, "/input"),
            ({"$ref": "other.json"}, "/input"),
            ({"$ref": "#/enum/0", "enum": [{"type": "strng"}]}, "/input"),
            ({"$ref": "#/enum/x", "enum": [1]}, "/input"),
            ({"$id": "http://[", "properties": {"a": {"$id": "b"}}}, "/input"),
        ],
    )
    def test_an_invalid_schema_is_reported(self, schema, place):
        """The position is that of the keyword, if there is one."""
        ((found, detail),) = problems_of({"id": "w", "input": schema, "nodes": {"n": TRANSFORM}})
        assert found == place
        assert detail.startswith("not a JSON Schema: ")

    def test_every_problem_of_a_schema_is_reported(self):
        """All problems are reported at once."""
        schema = {"type": "strng", "minimum": "1", "items": {"maximum": []}}
        places = [
            place
            for place, _ in problems_of({"id": "w", "input": schema, "nodes": {"n": TRANSFORM}})
        ]
        assert sorted(places) == ["/input/items/maximum", "/input/minimum", "/input/type"]

    @pytest.mark.parametrize(
        "schema",
        [
            True,
            {},
            {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}},
            {"$ref": "#a", "$defs": {"x": {"$anchor": "a"}}},
            {"properties": {"again": {"$ref": "#"}}},
            {"const": {"$ref": "anything"}},
        ],
    )
    def test_recursive_schemas_are_valid(self, schema):
        """All references can be resolved."""
        assert problems_of({"id": "w", "input": schema, "nodes": {"n": TRANSFORM}}) == []

    def test_a_reference_to_the_network_fetches_nothing(self):
        """A listening server receives no connection."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
            schema = {"properties": {"a": {"$ref": url}}}
            ((place, detail),) = problems_of(
                {"id": "w", "input": schema, "nodes": {"n": TRANSFORM}}
            )
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
        assert (place, url in detail) == ("/input", True)

    def test_a_schema_that_is_too_deep_is_reported(self):
        """The library checks schemas recursively."""
        schema: object = {}
        for _ in range(300):
            schema = {"not": schema}
        ((place, detail),) = problems_of({"id": "w", "input": schema, "nodes": {"n": TRANSFORM}})
        assert (place, detail) == ("/input", "not a JSON Schema: nested too deeply")


def test_optional_fields_may_be_null():
    """As the OpenAPI document says; null means absent."""
    fields = dict.fromkeys(["when", "stage", "retry", "timeout"])
    work = {"type": "transform", "with": {"value": 1}, "retry": None, "timeout": None}
    document = {
        "id": "w",
        "nodes": {
            "n": {**TRANSFORM, **fields, "on_timeout": None},
            "wait": {"type": "await", **fields, "on_timeout": None},
            "m": {"type": "map", **fields, "with": {"for_each": "[1]", "do": work}},
        },
    }
    assert problems_of(document) == []
    definition = validate(document, TYPES).definition
    assert definition is not None
    assert decode_definition(encode_definition(definition)) == definition
    assert definition.nodes["n"].retry is None
    assert problems_of_node(needs=None) == [("/needs", "needs must be a list of node ids")]


def test_a_schema_says_which_fields_may_be_null():
    """The validation and the OpenAPI document have one source."""
    for struct, nullable in ((Node, _NODE_NULLABLE), (ItemWork, _ITEM_NULLABLE)):
        optional = {
            field.encode_name for field in msgspec.structs.fields(struct) if field.default is None
        }
        assert optional == set(nullable)
