"""Three concurrent runs of one workflow, as commits that every tenant dialect renders."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect
from tailrace_api.dialects.encoding import Show, encode_commit
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commits import encode_commits

EPOCH: Final = "18f2e6a1b00"
FIRST: Final = 41
PARSE, APPROVE = "parse", "approve"
TRIGGER: Final = "payment-service.payments.trigger.completed"


def at(second: int) -> str:
    """Return the timestamp of a second of the story."""
    return f"2024-01-15T10:30:{second:02d}.250Z"


def _context(execution: str, run_input: Any, second: int, **fields: Any) -> Context:
    name = "Purchase order intake"
    return Context(execution, "purchase-order", name, run_input, 7, at(second), **fields)


GOOD: Final = _context(
    "0190a1b2-good", {"poId": "po-1", "größe": 1.5}, 0, tags=("vip", "eu"), parent="0190a1b1-top"
)
BAD: Final = _context("0190a1b2-bad", {"po_id": 7}, 2)
LEFT: Final = _context("0190a1b2-left", None, 6, tags=("eu",), rerun_of="0190a1b2-good")


class StoryCommit(NamedTuple):
    """A commit of the story.

    Attributes:
        status: its header with the status of its execution, where that has waits.
    """

    context: Context
    events: list[ev.Event]
    status: str = ""

    @property
    def payload(self) -> bytes:
        """The commit as it is stored."""
        return next(encode_commits(self.events))


def queued(context: Context, second: int) -> ev.Event:
    """Return the first event of an execution."""
    data = ev.Queued(
        context.execution_id,
        context.workflow_id,
        context.workflow_name,
        7,
        context.input,
        "queued",
    )
    return ev.ExecutionQueued(data, at(second))


def started(context: Context, second: int, eta_ms: int | None = None) -> ev.Event:
    """Return the second event of an execution."""
    return ev.ExecutionStarted(
        ev.Started(context.execution_id, "running", at(second), eta_ms), at(second)
    )


def begun(node: str, second: int, node_type: str = "po.parse", **fields: Any) -> ev.Event:
    """Return the event: an attempt begins."""
    data = ev.StepBegun(node, node_type, "running", fields.pop("attempt", 1), at(second), **fields)
    return ev.StepStarted(data, at(second))


def done(
    node: str, second: int, output: Any, node_type: str = "po.parse", **fields: Any
) -> ev.Event:
    """Return the success of a step."""
    data = ev.StepDone(
        node, node_type, "success", 1, at(second - 1), at(second), 1000, output, **fields
    )
    return ev.StepCompleted(data, at(second))


def broken(node: str, second: int, error: str, node_type: str, **fields: Any) -> ev.Event:
    """Return the failure of a step."""
    data = ev.StepError(
        node, node_type, "error", 2, at(second - 1), at(second), 1000, error, **fields
    )
    return ev.StepFailed(data, at(second))


def waiting(node: str, second: int, **fields: Any) -> ev.Event:
    """Return the event: a step waits for a signal."""
    data = ev.StepWait(node, "await", "waiting", wait="signal", attempt=1, **fields)
    return ev.StepWaiting(data, at(second))


def paused(context: Context, second: int, node: str) -> ev.Event:
    """Return the event: the execution is paused until a signal."""
    data = ev.Paused(context.execution_id, "paused", "approval", waiting=[node])
    return ev.ExecutionPaused(data, at(second))


def resumed(context: Context, second: int, node: str | None = None) -> ev.Event:
    """Return the event: the execution resumes."""
    return ev.ExecutionResumed(ev.Resumed(context.execution_id, "running", node), at(second))


STORY: Final[list[StoryCommit]] = [
    StoryCommit(GOOD, [queued(GOOD, 0)]),
    StoryCommit(
        GOOD,
        [
            started(GOOD, 1, 42_000),
            begun(PARSE, 1, name="Parse", stage="ai_parsing"),
            begun("each", 1, "map", stage="pages"),
        ],
    ),
    StoryCommit(BAD, [queued(BAD, 2)]),
    StoryCommit(
        GOOD,
        [
            ev.StepProgressed(
                ev.StepProgress(
                    PARSE,
                    "po.parse",
                    50.0,
                    "line 3\r\nof 6",
                    {"lines": 3},
                    "ai_parsing",
                    12.5,
                    30_000,
                ),
                at(3),
            ),
            ev.StepLogged(ev.StepLog(PARSE, "po.parse", "info", "a line"), at(3)),
            begun("each[0]", 3, "ocr", stage="pages"),
            ev.StepProgressed(ev.StepProgress("each[0]", "ocr", 10.0, stage="pages"), at(3)),
            done("each[0]", 3, {"text": "x"}, "ocr", stage="pages"),
        ],
    ),
    StoryCommit(BAD, [started(BAD, 4), begun(PARSE, 4, stage="ai_parsing")]),
    StoryCommit(
        GOOD,
        [
            done(
                PARSE,
                5,
                {"lineItems": [{"sku": "a"}, {"sku": "b"}], "confidence": 0.93, "total": 12},
                stage="ai_parsing",
            ),
            begun(APPROVE, 5, "await"),
            waiting(APPROVE, 5, reason="approval", until="2024-01-16T10:30:05.250Z"),
            done("each", 5, None, "map", stage="pages", output_omitted=True),
            paused(GOOD, 5, APPROVE),
        ],
        "paused 1 1a",
    ),
    StoryCommit(LEFT, [queued(LEFT, 6)]),
    StoryCommit(
        LEFT,
        [
            started(LEFT, 6),
            done(PARSE, 6, 1, stage="ai_parsing", kept_from=GOOD.execution_id),
            begun("pay", 6, "await", stage="payment"),
            waiting("pay", 6, reason="payment", triggers=[TRIGGER], match="event.ok"),
            begun("sign", 6, "await"),
            waiting("sign", 6),
            paused(LEFT, 6, "pay"),
        ],
        "paused 2 3c",
    ),
    StoryCommit(
        BAD,
        [
            ev.StepRetrying(
                ev.StepAgain(PARSE, "po.parse", "retrying", 1, "error", "flaky", at(8)), at(7)
            ),
            begun(PARSE, 8, stage="ai_parsing", attempt=2),
            broken(PARSE, 9, "no such file", "po.parse", stage="ai_parsing"),
            broken("other", 9, "when: no such key", "await"),
            ev.ExecutionFailed(
                ev.Failed(
                    BAD.execution_id, "failed", 5000, "parse: no such file", PARSE, waiting=[]
                ),
                at(9),
            ),
        ],
    ),
    StoryCommit(
        GOOD,
        [
            ev.CommandRequested(
                ev.Command(
                    GOOD.execution_id,
                    "resolve",
                    "c1",
                    actor="julia",
                    node_id=APPROVE,
                    decision="approved",
                ),
                at(10),
            )
        ],
    ),
    StoryCommit(
        GOOD,
        [
            resumed(GOOD, 11, APPROVE),
            done(APPROVE, 11, {"decision": "approved"}, "await"),
            begun("wait", 11, "delay"),
            ev.StepWaiting(ev.StepWait("wait", "delay", "waiting", at(12)), at(11)),
        ],
    ),
    StoryCommit(
        LEFT,
        [
            resumed(LEFT, 12),
            broken(
                "pay",
                12,
                "timed out after 5s",
                "await",
                stage="payment",
                waited=True,
                still_waiting=[ev.OpenWait("sign", at(6))],
            ),
        ],
        "running 1 2b",
    ),
    StoryCommit(
        GOOD,
        [
            done("wait", 13, {}, "delay"),
            ev.ExecutionCompleted(
                ev.Completed(GOOD.execution_id, "completed", 12_000, {"wait": {}}), at(13)
            ),
        ],
    ),
    StoryCommit(
        LEFT,
        [
            ev.ExecutionCancelled(
                ev.Cancelled(
                    LEFT.execution_id, "cancelled", 8000, "changed my mind", waiting=["sign"]
                ),
                at(14),
            )
        ],
    ),
]


def wire(dialect: Dialect, commits: list[StoryCommit], show: Show | None = None) -> Iterator[bytes]:
    """Yield the bytes that a dialect renders for each commit."""
    for commit in commits:
        sequence = FIRST + STORY.index(commit)
        context, payload = commit.context, commit.payload
        encoded = encode_commit(
            dialect, EPOCH, context, sequence, payload, show, status=commit.status
        )
        yield encoded.frames
