"""The checker of logs finds what it is there to find: a checker that cannot fail proves nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.generators.scripted_log import ScriptedLog
from harness.generators.workflows import definition
from harness.models.family_invariants import family_violations
from harness.models.log_invariants import check, violations
from harness.models.log_reading import Record
from tailrace_shared.execution.events import Parent

W = "worker-1"
PAIR = definition({"a": {}, "b": {"needs": ["a"]}})
AWAIT = definition({"a": {"type": "await", "on_timeout": "fail", "timeout": "1s"}})
MAP = definition(
    {
        "m": {
            "type": "map",
            "with": {
                "for_each": "input.xs",
                "max_parallel": 2,
                "do": {"type": "transform", "with": {"value": "${item}"}},
            },
        }
    }
)
CHILD = definition({"c": {"type": "workflow", "with": {"id": "test", "input": {}}}})


def begun(workflow: Any = PAIR, **nodes: dict[str, Any]) -> ScriptedLog:
    """Return a script whose execution has started."""
    script = ScriptedLog(definition(nodes) if nodes else workflow)
    return script.by("", script.queued({"xs": [1, 2, 3]})).by(W, script.started())


def legal() -> ScriptedLog:
    """Return the log of a good execution: a retry, a wait for a time, and the end."""
    s = begun(a={"retry": {"max_attempts": 2, "jitter": False}}, b={"type": "delay", **NEEDS_A})
    s.by(W, s.start("a")).by(W, s.log("a"), s.again("a"))
    s.now += 0.5
    s.by(W, s.start("a", 2))
    s.by(W, s.succeed("a", 1, 2), s.start("b"), s.wait("b", "time", until=s.at(s.now + 60)))
    s.now += 60
    return s.by("worker-2", s.succeed("b", {}), s.completed({"b": {}}))


NEEDS_A: dict[str, Any] = {"needs": ["a"], "with": {"duration": "60s"}}


def test_a_good_log_leaves_the_rules_speechless():
    """Otherwise every finding of theirs would be in doubt."""
    check([legal().record])


def started_early() -> ScriptedLog:
    """A node starts beside what it needs."""
    s = begun()
    return s.by(W, s.start("a"), s.start("b"))


def skipped_early() -> ScriptedLog:
    """A node is given up although what it needs may still succeed."""
    s = begun()
    return s.by(W, s.start("a"), s.skip("b"))


def ran_unwanted() -> ScriptedLog:
    """A node runs although its condition is false."""
    s = begun(a={"when": "false"})
    return s.by(W, s.start("a"))


def skipped_wanted() -> ScriptedLog:
    """A node is skipped by a condition that is true."""
    s = begun(a={"when": "true"})
    return s.by(W, s.skip("a", "when"))


def conjured() -> ScriptedLog:
    """A node succeeds that has never run."""
    s = begun()
    return s.by(W, s.succeed("a", attempt=0))


def counted_wrongly() -> ScriptedLog:
    """An attempt is left out."""
    s = begun()
    return s.by(W, s.start("a", 2))


def ended_another_attempt() -> ScriptedLog:
    """The end of an attempt names an older one."""
    s = begun(a={"retry": {"max_attempts": 9, "initial": "0s"}})
    s.by(W, s.start("a"), s.again("a", after=0), s.start("a", 2))
    return s.by(W, s.succeed("a", attempt=1))


def tried_too_often() -> ScriptedLog:
    """More attempts than the policy allows."""
    s = begun()
    return s.by(W, s.start("a"), s.again("a"))


def tried_too_soon() -> ScriptedLog:
    """An attempt before its time."""
    s = begun(a={"retry": {"max_attempts": 2, "jitter": False}})
    s.by(W, s.start("a"), s.again("a"))
    s.now += 0.4
    return s.by(W, s.start("a", 2))


def hurried() -> ScriptedLog:
    """A shorter backoff than the policy's."""
    s = begun(a={"retry": {"max_attempts": 2, "jitter": False}})
    return s.by(W, s.start("a"), s.again("a", after=0.1))


def repeated_after_a_crash() -> ScriptedLog:
    """A step is tried again whose effects must not be repeated."""
    s = begun(a={"on_crash": "fail"})
    return s.by(W, s.start("a")).by("worker-2", s.again("a", cause="crash", after=0))


def woke_early() -> ScriptedLog:
    """A delay ends before its time."""
    s = begun(a={"type": "delay", "with": {"duration": "60s"}})
    s.by(W, s.start("a"), s.wait("a", "time", until=s.at(60)))
    s.now += 59
    return s.by(W, s.succeed("a", {}))


def zombie_completed() -> ScriptedLog:
    """A worker ends an attempt that it began before it was displaced."""
    s = begun(a={}, b={})
    s.by(W, s.start("a"), s.start("b"))
    s.by("worker-2", s.again("a", cause="crash", after=0), s.start("a", 2))
    return s.by(W, s.succeed("a", attempt=2))


def stole_an_attempt() -> ScriptedLog:
    """Another worker reports on an attempt without having declared it lost."""
    s = begun()
    return s.by(W, s.start("a")).by("worker-2", s.log("a"))


def unsigned() -> ScriptedLog:
    """The API starts a step."""
    s = begun()
    return s.by("", s.start("a"))


def signed_by_the_driver() -> ScriptedLog:
    """The driver claims the attempt of an actor."""
    s = begun()
    return s.by(W, s.wait("a", "actor"), s.start("a", remote=True))


def started_while_held() -> ScriptedLog:
    """A client has requested a pause."""
    s = begun()
    return s.by("", s.command("pause")).by(W, s.start("a"))


def fired_while_held() -> ScriptedLog:
    """A timer fires in an execution that is held."""
    s = begun(a={"type": "delay", "with": {"duration": "1s"}})
    s.by(W, s.start("a"), s.wait("a", "time", until=s.at(1)))
    s.now += 1
    return s.by("", s.command("pause")).by(W, s.succeed("a", {}))


def went_on_while_paused() -> ScriptedLog:
    """Something happens between the pause and the resume."""
    s = begun()
    s.by("", s.command("pause")).by(W, s.paused(requested=True)).by("", s.command("resume"))
    return s.by(W, s.start("a"))


def paused_while_it_runs() -> ScriptedLog:
    """A step runs in an execution that is said to be paused."""
    s = begun()
    return s.by(W, s.start("a")).by("", s.command("pause")).by(W, s.paused(requested=True))


def paused_unasked() -> ScriptedLog:
    """No client has requested the pause."""
    s = begun()
    return s.by(W, s.paused(requested=True))


def paused_without_a_wait() -> ScriptedLog:
    """Nothing awaits a signal."""
    s = begun()
    return s.by(W, s.paused())


def paused_beside_a_timer() -> ScriptedLog:
    """Something will go on by itself."""
    s = begun(a={"type": "await"}, b={"type": "delay", "with": {"duration": "9s"}})
    s.by(W, s.start("a"), s.wait("a", "signal"))
    s.by(W, s.start("b"), s.wait("b", "time", until=s.at(9)))
    return s.by(W, s.paused("a"))


def paused_for_another() -> ScriptedLog:
    """The pause does not name the waiting steps."""
    s = begun(AWAIT)
    return s.by(W, s.start("a"), s.wait("a", "signal"), s.paused())


def expanded(count: int = 3) -> ScriptedLog:
    """Return a script whose map has found its items."""
    s = begun(MAP)
    return s.by(W, s.start("m"), s.expand("m", list(range(count))))


def crowded() -> ScriptedLog:
    """One item more at once than the map allows."""
    s = expanded()
    return s.by(W, s.start("m[0]"), s.start("m[1]"), s.start("m[2]"))


def beyond_the_items() -> ScriptedLog:
    """An item that the map has not found."""
    s = expanded()
    return s.by(W, s.start("m[3]"))


def itemised_too_early() -> ScriptedLog:
    """An item before its map."""
    s = begun(MAP)
    return s.by(W, s.start("m[0]"))


def went_on_after_an_item_failed() -> ScriptedLog:
    """A map that fails with its first item starts another."""
    s = expanded()
    return s.by(W, s.start("m[0]"), s.fail("m[0]"), s.start("m[1]"))


def ended_over_its_items() -> ScriptedLog:
    """A map fails while one of its items runs."""
    s = expanded(2)
    s.by(W, s.start("m[0]"), s.start("m[1]"), s.fail("m[0]"))
    return s.by(W, s.fail("m"))


def lost_an_item() -> ScriptedLog:
    """A map completes without one of its items."""
    s = expanded(2)
    return s.by(W, s.start("m[0]"), s.succeed("m[0]", 1), s.succeed("m", [1, 2]))


def shuffled() -> ScriptedLog:
    """A map's output is in another order than its items."""
    s = expanded(2)
    s.by(W, s.start("m[0]"), s.start("m[1]"), s.succeed("m[1]", 2), s.succeed("m[0]", 1))
    return s.by(W, s.succeed("m", [2, 1]))


def waiting(**fields: Any) -> ScriptedLog:
    """Return a script with a step that awaits a signal."""
    s = begun(AWAIT)
    return s.by(W, s.start("a"), s.wait("a", "signal", until=s.at(1), **fields))


ANSWER: dict[str, Any] = {"decision": "approved", "data": 1, "actor": "ann", "event": None}


def misquoted() -> ScriptedLog:
    """The step says something else than it was given."""
    s = waiting()
    s.by("", s.command("resolve", node_id="a", decision="rejected", data=1, actor="ann"))
    return s.by(W, s.succeed("a", ANSWER))


def timed_out_after_its_signal() -> ScriptedLog:
    """The signal was first, but the log has the timeout."""
    s = waiting()
    s.by("", s.command("resolve", node_id="a", decision="approved", data=1, actor="ann"))
    s.now += 2
    return s.by(W, s.fail("a"))


def answered_twice() -> ScriptedLog:
    """A second signal is accepted."""
    s = waiting()
    for _ in range(2):
        s.by("", s.command("resolve", node_id="a", decision="approved"))
    return s


def answered_without_decision() -> ScriptedLog:
    """The step has an answer although no signal has come."""
    s = waiting(on_timeout="continue")
    s.now += 2
    return s.by(W, s.succeed("a", ANSWER))


def timed_out_early() -> ScriptedLog:
    """A wait ends before its timeout."""
    s = waiting(on_timeout="fail")
    return s.by(W, s.fail("a"))


def timed_out_otherwise() -> ScriptedLog:
    """The timeout fails what it should have let go on."""
    s = waiting(on_timeout="continue")
    s.now += 2
    return s.by(W, s.fail("a"))


def completed_after_rejection() -> ScriptedLog:
    """A rejection that should fail the step does not."""
    s = waiting(on_reject="fail")
    s.by("", s.command("resolve", node_id="a", decision="rejected", data=1, actor="ann"))
    return s.by(W, s.succeed("a", {**ANSWER, "decision": "rejected"}))


def triggered_by_another() -> ScriptedLog:
    """A trigger is delivered that the step does not wait for."""
    s = waiting(triggers=["ours"])
    return s.by("", s.command("resolve", node_id="a", event={}, procedure="theirs"))


def triggered_without_a_match() -> ScriptedLog:
    """An event is delivered that does not match."""
    s = waiting(triggers=["ours"], match="event.n == 1")
    return s.by("", s.command("resolve", node_id="a", event={"n": 2}, procedure="ours"))


def completed_after_a_cancel() -> ScriptedLog:
    """An accepted cancel is forgotten."""
    s = begun(a={})
    s.by(W, s.start("a")).by("", s.command("cancel"))
    return s.by(W, s.succeed("a"), s.completed({"a": None}))


def started_after_a_cancel() -> ScriptedLog:
    """A step starts although the execution is cancelled."""
    s = begun(a={}, b={})
    return s.by(W, s.start("a")).by("", s.command("cancel")).by(W, s.start("b"))


def ended_twice() -> ScriptedLog:
    """Two terminal events."""
    s = begun(a={})
    s.by(W, s.start("a"), s.succeed("a"), s.completed({"a": None}))
    return s.by(W, s.completed({"a": None}))


def ended_too_soon() -> ScriptedLog:
    """The end comes before a node has been decided on."""
    s = begun()
    return s.by(W, s.start("a"), s.succeed("a"), s.completed({"b": None}))


def completed_with_a_failure() -> ScriptedLog:
    """A failed step does not fail the execution."""
    s = begun(a={})
    return s.by(W, s.start("a"), s.fail("a"), s.completed({"a": None}))


def failed_without_a_failure() -> ScriptedLog:
    """The execution fails although every step succeeded."""
    s = begun(a={})
    return s.by(W, s.start("a"), s.succeed("a"), s.failed("a"))


def came_out_wrong() -> ScriptedLog:
    """The output is not the leaves'."""
    s = begun(a={})
    return s.by(W, s.start("a"), s.succeed("a", 1), s.completed({"a": 2}))


def cancelled_unasked() -> ScriptedLog:
    """No client has requested the cancellation."""
    s = begun()
    return s.by(W, s.cancelled())


ILLEGAL: dict[Callable[[], ScriptedLog], str] = {
    started_early: "b is decided on although its needs are open",
    skipped_early: "b is skipped because of its needs, which are open",
    ran_unwanted: "a runs although its condition is False",
    skipped_wanted: "a is skipped although its condition is True",
    conjured: "a has succeeded without having run",
    counted_wrongly: "a begins attempt 2 after attempt 0",
    ended_another_attempt: "a ends attempt 1 while attempt 2 is the newest",
    tried_too_often: "a is tried again after 1 failures",
    tried_too_soon: "the timer of a comes 0.100 s early",
    hurried: "a is tried again after 0.100 s, not 0.5 to 0.5 s",
    repeated_after_a_crash: "a is tried again after a crash, which its definition forbids",
    woke_early: "the timer of a comes 1.000 s early",
    zombie_completed: "step:completed of a is by worker-1, but its attempt by worker-2",
    stole_an_attempt: "step:log of a is by worker-2, but its attempt by worker-1",
    unsigned: "step:started has no writer",
    signed_by_the_driver: "an attempt of a is begun by worker-1",
    started_while_held: "a starts while the execution is held",
    fired_while_held: "the wait of a ends while the execution is held",
    went_on_while_paused: "a is decided on in an execution that is paused",
    paused_while_it_runs: "the execution is paused while a runs",
    paused_unasked: "the execution is paused by request, but there was no request",
    paused_without_a_wait: "the execution is paused, but no step awaits a signal",
    paused_beside_a_timer: "the execution is paused although b will go on by itself",
    paused_for_another: "the pause lists [], but ['a'] wait for a signal",
    crowded: "m[2] starts beside 2 others of 2",
    beyond_the_items: "m[3] is not one of 3 items",
    itemised_too_early: "step:started of m[0], whose map is pending",
    went_on_after_an_item_failed: "m[1] starts although an item before it has failed",
    ended_over_its_items: "m ends while m[1] runs",
    lost_an_item: "m completes although its item 1 is pending",
    shuffled: "the output of m is not its items' in order",
    misquoted: "not that of its signal",
    timed_out_after_its_signal: "a fails although it has its signal",
    answered_twice: "a signal for a, which does not wait for one",
    answered_without_decision: "a has the decision 'approved', but there was no signal",
    timed_out_early: "the timer of a comes 1.000 s early",
    timed_out_otherwise: "a times out by fail, not by continue",
    completed_after_rejection: "a succeeds although it was rejected",
    triggered_by_another: "a does not wait for theirs",
    triggered_without_a_match: "a receives an event that does not match",
    completed_after_a_cancel: "the execution was to be cancelled, but is completed",
    started_after_a_cancel: "b starts although the execution was to be cancelled",
    ended_twice: "execution:completed comes after the end",
    ended_too_soon: "the execution ends while b is pending",
    completed_with_a_failure: "the execution is completed although a failed",
    failed_without_a_failure: "the execution is failed although no step failed",
    came_out_wrong: "the output is {'a': 2}, not {'a': 1}",
    cancelled_unasked: "the execution is cancelled, but there was no request",
}


@pytest.mark.parametrize("make", ILLEGAL, ids=lambda make: make.__name__)
def test_each_illegal_log_is_detected(make: Callable[[], ScriptedLog]):
    """Each violation has a log and the sentence that reports it."""
    problems = violations(make().record, ended=False)
    assert any(ILLEGAL[make] in problem for problem in problems), problems


def test_a_log_without_an_end_is_detected():
    """The check applies where an execution must have ended."""
    assert violations(begun().record) == ["the execution has not ended: it is running"]


def test_commits_out_of_order_are_detected():
    """A log is read in the order of its sequences."""
    record = legal().record
    *earlier, last = record.commits
    turned = Record(record.definition, [*earlier, last._replace(sequence=1)])
    assert violations(turned) == [f"the commit 1 comes after {earlier[-1].sequence}"]


@pytest.mark.parametrize("lost", range(1, 6))
def test_a_log_that_lost_a_commit_is_detected(lost: int):
    """Every commit of a log is needed for the ones that follow."""
    record = legal().record
    commits = [commit for index, commit in enumerate(record.commits) if index != lost]
    assert violations(Record(record.definition, commits))


# Between executions


def family(*, output: Any = 7, child_output: Any = 7, depth: int = 1) -> dict[str, ScriptedLog]:
    """Return a parent and its child run, both completed."""
    parent, child = ScriptedLog(CHILD, "parent"), ScriptedLog(PAIR_LEAF, "child")
    parent.by("", parent.queued()).by(W, parent.started(), parent.start("c"))
    parent.by(W, parent.wait("c", "child", child_execution_id="child"))
    child.sequence = parent.sequence
    child.by("", child.queued(parent=Parent("parent", "c"), depth=depth)).by(W, child.started())
    child.by(W, child.start("x"), child.succeed("x", child_output))
    child.by(W, child.completed({"x": child_output}))
    parent.sequence = child.sequence
    parent.by(W, parent.succeed("c", {"x": output}), parent.completed({"c": {"x": output}}))
    return {"parent": parent, "child": child}


PAIR_LEAF = definition({"x": {}})


def records(scripts: dict[str, ScriptedLog]) -> dict[str, Record]:
    """Return scripts as the checker takes them."""
    return {execution: script.record for execution, script in scripts.items()}


def test_a_legal_family_has_no_violations():
    """A child run, linked both ways, whose output is its step's."""
    scripts = family()
    assert family_violations(records(scripts)) == []
    check(script.record for script in scripts.values())


def test_a_child_whose_output_is_not_its_steps_is_detected():
    """The parent must repeat the outcome of its child."""
    (problem,) = family_violations(records(family(output=8)))
    assert problem == "c has another output than its child child"


def test_a_child_at_the_wrong_depth_is_detected():
    """The limit of nesting relies on the depth."""
    assert family_violations(records(family(depth=2))) == ["child is at depth 2"]


def test_a_missing_child_is_detected():
    """Its parent ended as if the child existed."""
    found = records(family())
    del found["child"]
    assert family_violations(found) == ["parent waited for child, which does not exist"]


def test_a_child_without_a_waiting_parent_is_detected():
    """A child run must be recorded by its parent before it exists."""
    orphan = ScriptedLog(PAIR_LEAF, "orphan")
    orphan.by("", orphan.queued(parent=Parent("parent", "c"), depth=1))
    found = records({**family(), "orphan": orphan})
    (problem,) = family_violations(found)
    assert problem.startswith("orphan names a parent that does not wait for it")


def test_a_parent_that_ends_before_its_child_is_detected():
    """Stream sequences decide the order, not clocks."""
    scripts = family()
    late = ScriptedLog(PAIR_LEAF, "child", sequence=100)
    late.by("", late.queued(parent=Parent("parent", "c"), depth=1)).by(W, late.started())
    problems = family_violations(records({**scripts, "child": late}))
    assert "parent ended before its child child" in problems
    assert "c succeeds before its child child has ended" in problems


def stopped_family(end: str, *, cancelled: bool) -> dict[str, Record]:
    """Return a parent that is stopped, and its child run, which goes on for a while.

    Args:
        end: what stops the parent, a method of :class:`ScriptedLog`.
        cancelled: whether the cancellation of the child run is requested.
    """
    parent = ScriptedLog(CHILD, "parent")
    parent.by("", parent.queued()).by(W, parent.started(), parent.start("c"))
    parent.by(W, parent.wait("c", "child", child_execution_id="child"))
    child = ScriptedLog(PAIR_LEAF, "child", sequence=parent.sequence)
    child.by("", child.queued(parent=Parent("parent", "c"), depth=1)).by(W, child.started())
    if cancelled:
        child.by("", child.command("cancel"))
    parent.sequence = child.sequence
    if end == "cancelled":
        parent.by("", parent.command("cancel"))
    parent.by(W, getattr(parent, end)())
    child.sequence = parent.sequence
    if cancelled:
        child.by(W, child.cancelled())
    return records({"parent": parent, "child": child})


@pytest.mark.parametrize("end", ["cancelled", "timed_out"])
def test_a_stopped_parent_does_not_wait_for_its_child(end: str):
    """It ends at once, because a child may need long to stop."""
    assert family_violations(stopped_family(end, cancelled=True)) == []


@pytest.mark.parametrize("end", ["cancelled", "timed_out"])
def test_a_stopped_parent_with_a_running_child_is_detected(end: str):
    """No part of an execution that was stopped may continue."""
    found = family_violations(stopped_family(end, cancelled=False))
    assert found == ["parent was stopped, but its child child was not"]


def rerun(kept: Any, *nodes: str) -> dict[str, Record]:
    """Return an execution whose second step failed, and its rerun from there."""
    original = ScriptedLog(PAIR, "first")
    original.by("", original.queued()).by(W, original.started(), original.start("a"))
    original.by(W, original.succeed("a", 1), original.start("b"), original.fail("b"))
    original.by(W, original.failed("b"))
    again = ScriptedLog(PAIR, "second", sequence=original.sequence)
    again.by("", again.queued(rerun_of="first", from_node="b"))
    again.by(W, *(again.succeed(node, kept, kept_from="first") for node in nodes), again.started())
    return {"first": original.record, "second": again.record}


def test_a_rerun_keeps_what_succeeded_before_its_node():
    """Exactly that, and with the very outputs."""
    assert family_violations(rerun(1, "a")) == []
    assert family_violations(rerun(2, "a")) == ["second keeps another output of a"]
    assert family_violations(rerun(1)) == ["second keeps [], not ['a']"]


def test_executions_above_the_concurrency_limit_are_detected():
    """Stream sequences decide; each value of the key is a group."""
    limited = definition({"a": {}}, concurrency={"limit": 1, "key": "input.k"})
    first, second = ScriptedLog(limited, "e1"), ScriptedLog(limited, "e2", sequence=10)
    first.by("", first.queued({"k": 1})).by(W, first.started())
    second.by("", second.queued({"k": 1})).by(W, second.started())
    found = family_violations(records({"e1": first, "e2": second}))
    assert found == ["2 executions of test ran at once; the limit is 1"]
    other = ScriptedLog(limited, "e2", sequence=10)
    other.by("", other.queued({"k": 2})).by(W, other.started())
    assert family_violations(records({"e1": first, "e2": other})) == []
