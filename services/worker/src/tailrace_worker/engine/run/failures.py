"""Make outcomes of what node functions raise."""

import structlog

from tailrace_worker.engine.decide.outcomes import Erred
from tailrace_worker.engine.decide.plan import PlannedNode
from tailrace_worker.engine.run.attempt import encodable
from tailrace_worker.nodes.node import NodeFailedError
from tailrace_worker.nodes.raised import describe, is_retryable
from tailrace_worker.secrets.redactor import Redactor

_log = structlog.get_logger(__name__)


def erred(error: BaseException, node: PlannedNode, redactor: Redactor | None) -> Erred:
    """Return the outcome of an attempt that raised ``error``, an exception of any class."""
    if not isinstance(error, NodeFailedError):
        _warn(error, node)
    text = describe(error)
    return Erred(
        encodable(text if redactor is None else redactor.redact_text(text)), is_retryable(error)
    )


def _warn(error: BaseException, node: PlannedNode) -> None:
    try:
        _log.warning("node failed", node_type=node.node.type, node_id=node.id, exc_info=error)
    # A renderer of tracebacks asks the exception for its text.
    except BaseException:  # noqa: BLE001
        _log.warning(
            "node failed", node_type=node.node.type, node_id=node.id, error=type(error).__name__
        )
