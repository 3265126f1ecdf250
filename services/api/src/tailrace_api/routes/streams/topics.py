"""The query parameter ``topics`` of a multiplexed stream."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request

from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import NamedTopic
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.runs import Runs
from tailrace_api.dialects.snapshot import RunsOf
from tailrace_api.dialects.statistics import STATISTICS
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.web.operation import Parameter
from tailrace_api.web.problems import LimitError, RefusedError
from tailrace_api.web.query import OPTIONAL_WHITESPACE
from tailrace_shared.ids import is_valid_id

_TOPIC: Final = r"(paused|feed|runs|stats|(execution|pipeline|runs|tag):[A-Za-z0-9_-]{1,64})"

TOPICS: Final = Parameter(
    "topics",
    Annotated[str, Meta(pattern=rf"^,*{_TOPIC}(,{_TOPIC}?)*$")],
    "The topics, separated by commas: `execution:<id>`, `paused`, `pipeline:<id>`, `feed`, `runs`, "
    "`runs:<workflow>`, `tag:<tag>`, `stats`.",
    is_required=True,
)

SINCE: Final = (
    Parameter(
        "since",
        str,
        "The last id of a stream of other topics; those of `since_topics` go on after it.",
    ),
    Parameter(
        "since_topics",
        str,
        "The topics of that stream, separated by commas. The others begin with their snapshots.",
    ),
)
"""Parameters of a stream whose topics have changed."""

_KINDS: Final = (
    "execution:<id>, paused, pipeline:<id>, feed, runs, runs:<workflow>, tag:<tag> or stats"
)

_TENANT_TOPICS: Final[Mapping[str, NamedTopic]] = {
    "paused": NamedTopic("paused", PAUSED_WORKFLOWS),
    "feed": NamedTopic("feed", TENANT_FEED),
    "runs": NamedTopic("runs", Runs()),
    "stats": NamedTopic("stats", STATISTICS),
}
_TOPICS_WITH_ID: Final[Mapping[str, Callable[[str, str], NamedTopic]]] = {
    "execution": lambda name, execution: NamedTopic(name, EXECUTION, execution),
    "pipeline": lambda name, pipeline: NamedTopic(name, Pipelines(frozenset({pipeline}))),
    "runs": lambda name, workflow: NamedTopic(name, Runs(RunsOf(workflow=workflow))),
    "tag": lambda name, tag: NamedTopic(name, Runs(RunsOf(tag=tag))),
}


def topics_of(request: Request, limit: int) -> list[NamedTopic]:
    """Return the topics that a request lists, deduplicated and sorted.

    Sorting lets streams of the same topics share one topic of the hub.

    Raises:
        RefusedError: There are no topics, too many, or an unknown one.
    """
    text = request.query_params.get("topics", "")
    # Counted before the list is split, to limit the work.
    if (count := text.count(",") + 1) > limit:
        raise LimitError(
            400,
            f"topics: {count} are more than {limit} (TAILRACE_MAX_STREAM_TOPICS); open another "
            "stream for the rest",
        )
    parts = (part.strip(OPTIONAL_WHITESPACE) for part in text.split(","))
    names = sorted({part for part in parts if part})
    if not names:
        raise RefusedError(400, f"topics: name what to stream, by commas: {_KINDS}")
    return [_topic(name) for name in names]


def _topic(name: str) -> NamedTopic:
    kind, colon, which = name.partition(":")
    if not colon and kind in _TENANT_TOPICS:
        return _TENANT_TOPICS[kind]
    if colon and kind in _TOPICS_WITH_ID:
        if not is_valid_id(which):
            raise RefusedError(400, f"topics: {which[:80]!r} is not the id of a topic {kind}:<id>")
        return _TOPICS_WITH_ID[kind](name, which)
    raise RefusedError(400, f"topics: {name[:80]!r} is no topic; topics are {_KINDS}")
