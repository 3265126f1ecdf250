"""Whether the leader that has answered is the only leader of its stream.

During a partition, or when a frozen server goes on, an older leader may answer for some seconds
besides the one that the majority has elected, and it lacks the newest messages. A follower that has
heard from a leader starts no election for at least four seconds. So a leader that has heard from a
majority more recently is the only one.
"""

from collections.abc import Mapping
from typing import Any, Final

_QUORUM_AGE_NS: Final = 3_000_000_000


def is_sole(info: Mapping[str, Any]) -> bool:
    """Return whether a stream has no other replica that could know more.

    Args:
        info: the answer to a ``STREAM.INFO`` request.
    """
    cluster = info.get("cluster") or {}
    return not cluster.get("replicas")


def has_quorum(info: Mapping[str, Any]) -> bool:
    """Return whether a leader has answered that lately heard from a majority of the replicas.

    Args:
        info: the answer to a ``STREAM.INFO`` request.
    """
    if is_sole(info):
        return True
    cluster = info["cluster"]
    heard = sum(
        not replica.get("offline") and replica.get("active", 0) < _QUORUM_AGE_NS
        for replica in cluster["replicas"]
    )
    # The leader itself is not among them.
    size = len(cluster["replicas"]) + 1
    return bool(cluster.get("leader")) and 2 * (heard + 1) > size
