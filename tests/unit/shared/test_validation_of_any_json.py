"""Validation of any JSON never raises, and its problems have positions."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from harness.models.invalid_definitions import resolve
from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow.definition import MapWork, decode_definition, encode_definition
from tailrace_shared.workflow.expressions.template import compile_template
from tailrace_shared.workflow.graph import graph_of
from tailrace_shared.workflow.validation import validate

KEYS = st.sampled_from(
    [
        *("id", "name", "nodes", "edges", "input", "output", "type", "with", "needs", "when"),
        *("join", "stage", "retry", "timeout", "data", "source", "target", "label", "value"),
        *("max_attempts", "factor", "initial", "$ref", "$id", "properties", "a", "a/b", "n", ""),
        *("for_each", "do", "on_error", "max_parallel", "reason", "triggers", "match", "form"),
        *("lookback", "on_reject", "procedure", "limit", "key", "on_timeout", "on_crash"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [
            *("", "a", "n", "transform", "delay", "1s", "0s", "all", "any", "${input.x}", "${"),
            *("${nodes.a.output}", "nodes.a", "1 +", "x", "#", "#/a", "http://[", "\x00", "é"),
            *("await", "map", "workflow", "emit", "item", "event.x", "fail", "continue", "queue"),
        ]
    )
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
NODES = st.dictionaries(st.sampled_from(["type", "with", "needs", "when", "retry", "data"]), JSON)
WAITING = st.fixed_dictionaries(
    {"type": st.just("await")},
    optional={
        "with": st.fixed_dictionaries(
            {},
            optional={
                "reason": SCALARS,
                "triggers": st.lists(SCALARS, max_size=2),
                "match": SCALARS,
                "lookback": SCALARS,
                "form": JSON,
                "on_reject": SCALARS,
            },
        ),
        "timeout": SCALARS,
        "on_timeout": SCALARS,
    },
)
MAPPING = st.fixed_dictionaries(
    {
        "type": st.just("map"),
        "with": st.fixed_dictionaries(
            {"for_each": SCALARS, "do": JSON | st.builds(dict, type=SCALARS, retry=JSON)},
            optional={"max_parallel": SCALARS, "on_error": SCALARS},
        ),
    }
)
DOCUMENTS = JSON | st.fixed_dictionaries(
    {"id": st.just("w") | SCALARS},
    optional={
        "nodes": st.dictionaries(
            st.sampled_from(["a", "n", "a/b"]), NODES | WAITING | MAPPING | JSON, max_size=3
        )
        | st.lists(NODES | JSON, max_size=3),
        "edges": JSON,
        "input": JSON,
        "output": JSON,
        "concurrency": JSON | st.builds(dict, limit=SCALARS, key=SCALARS, on_limit=SCALARS),
    },
)


@given(DOCUMENTS)
def test_any_json_is_either_a_definition_or_has_problems(document):
    """Validation never raises, and a valid definition is unchanged by another validation."""
    definition, problems = validate(document)
    assert (definition is None) == bool(problems)
    if definition is not None:
        graph_of(definition)
        stored = encode_definition(definition)
        assert decode_definition(stored) == definition
        again = validate(msgspec.json.decode(stored))
        assert again.problems == []
        assert again.definition == definition
        for node in definition.nodes.values():
            compile_template(node.parameters)
            if node.type == "map":
                msgspec.convert(node.parameters, MapWork)


@given(DOCUMENTS)
def test_every_problem_has_an_existing_position(document):
    """A pointer leads to the invalid value, or to the object that lacks a field."""
    for problem in validate(document).problems:
        resolve(document, problem.pointer)


@given(st.text(max_size=10), st.lists(st.text(max_size=5), max_size=3))
def test_pointers_support_any_key(key, keys):
    """Slashes and tildes are escaped (RFC 6901)."""
    document: object = 1
    for name in reversed([key, *keys]):
        document = {name: document}
    assert resolve(document, join_pointer("", key, *keys)) == 1
