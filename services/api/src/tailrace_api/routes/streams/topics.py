"""The topics of a multiplexed stream, as a client lists them."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from msgspec import Meta
from starlette.requests import Request

from tailrace_api.dialects.execution import EXECUTION
from tailrace_api.dialects.multiplex import NamedTopic
from tailrace_api.dialects.paused_workflows import PAUSED_WORKFLOWS
from tailrace_api.dialects.pipeline_status import Pipelines
from tailrace_api.dialects.tenant_feed import TENANT_FEED
from tailrace_api.web.operation import Parameter
from tailrace_api.web.problems import RefusedError
from tailrace_shared.ids import is_valid_id

_TOPIC: Final = r"(paused|feed|(execution|pipeline):[A-Za-z0-9_-]{1,64})"

TOPICS: Final = Parameter(
    "topics",
    Annotated[str, Meta(pattern=rf"^,*{_TOPIC}(,{_TOPIC}?)*$")],
    "What to stream, by commas: `execution:<id>`, `paused`, `pipeline:<id>`, `feed`.",
    is_required=True,
)

_KINDS: Final = "execution:<id>, paused, pipeline:<id> or feed"

_WHOLE: Final[Mapping[str, NamedTopic]] = {
    "paused": NamedTopic("paused", PAUSED_WORKFLOWS),
    "feed": NamedTopic("feed", TENANT_FEED),
}
_OF_ONE: Final[Mapping[str, Callable[[str, str], NamedTopic]]] = {
    "execution": lambda name, execution: NamedTopic(name, EXECUTION, execution),
    "pipeline": lambda name, pipeline: NamedTopic(name, Pipelines(frozenset({pipeline}))),
}


def topics_of(request: Request, most: int) -> list[NamedTopic]:
    """Return the topics that a request lists, each once.

    Their order is always the same: streams of the same topics are the same stream.

    Raises:
        RefusedError: there are none, or too many, or one of them is none.
    """
    text = request.query_params.get("topics", "")
    # Counted before anything is done with them.
    if (count := text.count(",") + 1) > most:
        raise RefusedError(
            400, f"topics: {count} are more than {most}; open another stream for the rest"
        )
    names = sorted({name for name in text.split(",") if name})
    if not names:
        raise RefusedError(400, f"topics: name what to stream, by commas: {_KINDS}")
    return [_topic(name) for name in names]


def _topic(name: str) -> NamedTopic:
    kind, colon, which = name.partition(":")
    if not colon and kind in _WHOLE:
        return _WHOLE[kind]
    if colon and kind in _OF_ONE:
        if not is_valid_id(which):
            raise RefusedError(400, f"topics: {which[:80]!r} is not the id of a topic {kind}:<id>")
        return _OF_ONE[kind](name, which)
    raise RefusedError(400, f"topics: {name[:80]!r} is no topic; topics are {_KINDS}")
