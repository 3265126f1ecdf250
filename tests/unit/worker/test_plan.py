"""Plans: the work of each step, compiled expressions, and the outputs that they name."""

from harness.generators.workflows import definition
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_worker.engine.decide.plan import Plan, names_of

MAPPED = {
    "type": "map",
    "needs": ["list", "base"],
    "with": {
        "for_each": "nodes.list.output",
        "do": {"type": "test.item", "with": {"value": "${item + nodes.base.output}"}},
    },
}


def test_a_step_is_its_node_or_what_its_map_does():
    """An item's retry policy and timeout are those of the work."""
    do = {"type": "test.item", "timeout": "5s", "retry": {"max_attempts": 3}}
    plan = Plan(definition({"a": {}, "m": {"type": "map", "with": {"for_each": "[1]", "do": do}}}))
    assert plan.step("a").node.type == "simulate"
    assert plan.step("m").node.type == "map"
    item = plan.step("m[7]").node
    assert (item.type, item.timeout, item.retry and item.retry.max_attempts) == (
        "test.item",
        "5s",
        3,
    )
    assert plan.step("m[7]") is plan.step("m[8]")


def test_a_plan_knows_which_steps_an_actor_attends_to():
    """Of items as of nodes; a map itself has no actor."""
    plan = Plan(
        definition({"list": {}, "base": {}, "m": MAPPED, "a": {"type": "test.item"}}),
        lambda node_type: node_type == "test.item",
    )
    actors = {step for step in ("list", "m", "m[0]", "a") if plan.step(step).is_actor}
    assert actors == {"m[0]", "a"}


def test_the_outputs_that_expressions_name_are_known_beforehand():
    """In parameters, conditions, lists, items, matches and the final output."""
    plan = Plan(
        definition(
            {
                **{node: {} for node in ("list", "base", "asked", "matched", "shown", "unnamed")},
                "m": MAPPED,
                "w": {"needs": ["asked"], "when": "nodes.asked.output.x"},
                "a": {
                    "type": "await",
                    "needs": ["matched"],
                    "with": {"triggers": ["t"], "match": "event.x == nodes.matched.output"},
                },
            },
            output={"shown": "${nodes.shown.output}"},
        )
    )
    assert plan.referenced == frozenset(["list", "base", "asked", "matched", "shown"])


def test_an_expression_may_name_any_node_by_a_value():
    """Then all outputs must be at hand."""
    value = "${nodes[input.which].output}"
    plan = Plan(
        definition({"a": {}, "b": {"type": "transform", "needs": ["a"], "with": {"value": value}}})
    )
    assert plan.referenced is None


def test_a_parameter_that_is_only_called_match_is_no_expression():
    """An await's is; another type may mean anything by it."""
    plan = Plan(definition({"a": {"type": "test.search", "with": {"match": "^a.*$"}}}))
    assert plan.referenced == frozenset()


def test_without_a_declared_output_there_is_no_template():
    """The leaves' outputs are taken then."""
    assert Plan(definition({"a": {}})).output is None
    assert Plan(definition({"a": {}}, output={"x": 1})).output is not None


def test_an_item_may_name_itself_and_its_place():
    """A node may not."""
    state = ExecutionState(steps={"m": StepState("m", items=["x", "y"])})
    state.step("a")
    assert names_of("m[1]", state) == {"item": "y", "index": 1}
    assert names_of("m", state) == {}
    assert names_of("a", state) == {}
