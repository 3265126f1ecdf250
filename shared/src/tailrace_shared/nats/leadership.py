"""Whether the leader that has answered is the only leader of its stream.

During a partition, or when a frozen server goes on, an older leader may answer for some seconds
besides the one that the majority has elected, and it lacks the newest messages. A follower that has
heard from a leader starts no election for at least four seconds. So a leader that has heard from a
majority more recently is the only one that can store.

An older leader may still answer requests until it hears from the others. One that has answered its
successor has given up, so while a leader hears from all other replicas no older one answers.
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
    # The leader itself is not among the replicas.
    size = len(cluster["replicas"]) + 1
    return bool(cluster.get("leader")) and 2 * (_heard(cluster) + 1) > size


def is_followed_by_all(info: Mapping[str, Any]) -> bool:
    """Return whether a leader has answered that lately heard from all other replicas.

    Args:
        info: the answer to a ``STREAM.INFO`` request.
    """
    cluster = info.get("cluster") or {}
    return is_sole(info) or _heard(cluster) == len(cluster["replicas"])


def term_of(info: Mapping[str, Any]) -> str:
    """Return what identifies the term of the leader that has answered.

    Args:
        info: the answer to a ``STREAM.INFO`` request.
    """
    cluster = info.get("cluster") or {}
    return f"{cluster.get('leader', '')} {cluster.get('leader_since', '')}"


def _heard(cluster: Mapping[str, Any]) -> int:
    """Return from how many other replicas a leader lately heard."""
    return sum(
        not replica.get("offline") and replica.get("active", 0) < _QUORUM_AGE_NS
        for replica in cluster["replicas"]
    )
