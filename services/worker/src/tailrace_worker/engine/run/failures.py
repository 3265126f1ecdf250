"""Make outcomes of what node functions raise."""

from typing import Final

import structlog

from tailrace_worker.engine.decide.outcomes import Erred
from tailrace_worker.engine.decide.plan import PlannedNode
from tailrace_worker.engine.run.attempt import encodable
from tailrace_worker.nodes.node import NodeFailedError
from tailrace_worker.nodes.raised import describe, explain, is_retryable
from tailrace_worker.secrets.redactor import Redactor

MAX_DETAIL_CHARACTERS: Final = 2048
"""Maximum length of a traceback or response: a map may record one for each attempt of an item."""

_log = structlog.get_logger(__name__)


def erred(error: BaseException, node: PlannedNode, redactor: Redactor | None) -> Erred:
    """Return the outcome of an attempt that raised ``error``, an exception of any class."""
    if not isinstance(error, NodeFailedError):
        _warn(error, node)
    text, detail = describe(error), explain(error)
    if redactor is not None:
        text, detail = redactor.redact_text(text), redactor.redact_text(detail)
    # Cut after it was redacted: half of a secret would not be recognised. The end of a traceback
    # says the most, and the beginning of a response.
    cut = slice(MAX_DETAIL_CHARACTERS)
    if not isinstance(error, NodeFailedError):
        cut = slice(-MAX_DETAIL_CHARACTERS, None)
    return Erred(encodable(text), is_retryable(error), encodable(detail[cut]))


def _warn(error: BaseException, node: PlannedNode) -> None:
    try:
        _log.warning("node failed", node_type=node.node.type, node_id=node.id, exc_info=error)
    # A renderer of tracebacks asks the exception for its text.
    except BaseException:  # noqa: BLE001
        _log.warning(
            "node failed", node_type=node.node.type, node_id=node.id, error=type(error).__name__
        )
