"""Make outcomes of what node functions raise."""

from typing import Final

import structlog

from tailrace_worker.engine.decide.outcomes import Erred
from tailrace_worker.engine.decide.plan import PlannedNode
from tailrace_worker.engine.run.attempt import encodable
from tailrace_worker.nodes.node import NodeFailedError
from tailrace_worker.nodes.raised import describe, explain, is_a, is_retryable
from tailrace_worker.secrets.redactor import Redactor

MAX_DETAIL_CHARACTERS: Final = 2048
"""Maximum length of a traceback or response: a map may record one for each attempt of an item."""

MAX_LOGGED_CHARACTERS: Final = 8192

_log = structlog.get_logger(__name__)


def erred(error: BaseException, node: PlannedNode, redactor: Redactor | None) -> Erred:
    """Return the outcome of an attempt that raised ``error``, an exception of any class."""
    text, detail = describe(error), explain(error)
    if redactor is not None:
        text, detail = redactor.redact_text(text), redactor.redact_text(detail)
    if not is_a(error, NodeFailedError):
        # Not `exc_info`: it could render causes without end, and texts of megabytes.
        _log.warning(
            "node failed",
            node_type=node.node.type,
            node_id=node.id,
            error=encodable(text[:MAX_DETAIL_CHARACTERS]),
            traceback=encodable(detail[-MAX_LOGGED_CHARACTERS:]),
        )
    # Cut after it was redacted: half of a secret would not be recognised. The end of a traceback
    # says the most, and the beginning of a response.
    cut = slice(MAX_DETAIL_CHARACTERS)
    if not is_a(error, NodeFailedError):
        cut = slice(-MAX_DETAIL_CHARACTERS, None)
    return Erred(encodable(text), is_retryable(error), encodable(detail[cut]))
