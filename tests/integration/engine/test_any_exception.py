"""Any exception of any class, in any kind of node, ends the attempt and is retried."""

from typing import Any

import pytest
from integration.engine import raising_functions

from harness.generators.workflows import definition
from harness.processes.installation import Installation
from tailrace_shared.execution.state import fold

RETRY = {"max_attempts": 3, "initial": "0s"}


def cases(kind: str) -> list[str]:
    """Return the cases of a kind of node."""
    further = raising_functions.ASYNC if raising_functions.KINDS[kind] else {}
    # By Shutdown, Dramatiq itself asks for another worker, so that no attempt has failed.
    left_out = {"Shutdown"} if kind == "actor" else set()
    return [case for case in (*raising_functions.DONE, *further) if case not in left_out]


def nodes(failures: int) -> dict[str, Any]:
    """Return a map over the cases for each kind of node."""
    return {
        kind: {
            "type": "map",
            "with": {
                "for_each": f"input.{kind}",
                "max_parallel": 10,
                "on_error": "collect",
                "do": {
                    "type": f"raise.{kind}",
                    "with": {"case": "${item}", "failures": failures},
                    "retry": RETRY,
                },
            },
        }
        for kind in raising_functions.KINDS
    }


@pytest.mark.timeout(300)
async def test_any_exception_ends_an_attempt_and_honours_the_retry_policy(site: Installation):
    """Two attempts raise; the third succeeds, or all of them raise and the step fails."""
    service = site.worker(nodes="raising_functions")
    given = {kind: cases(kind) for kind in raising_functions.KINDS}
    for failures in (2, 3):
        stored = await site.store(definition(nodes(failures)))
        state = fold(await site.finished(await site.start(stored, given)))
        wrong = []
        for kind, names in given.items():
            for index, case in enumerate(names):
                step = state.steps[f"{kind}[{index}]"]
                if failures == 2:
                    is_right = (step.status, step.output, step.failures) == ("success", 3, 2)
                else:
                    is_right = (step.status, step.attempt, bool(step.error)) == ("error", 3, True)
                if not is_right:
                    wrong.append((kind, case, step.status, step.attempt, step.failures, step.error))
        assert not wrong, "\n".join(map(str, wrong))
    # No attempt has ended the worker, nor does it end badly.
    assert service.stop() == 0
