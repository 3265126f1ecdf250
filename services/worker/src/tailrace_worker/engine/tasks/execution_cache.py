"""The cache of executions that a worker has stopped driving, with a TTL and a memory limit.

Other workers may complete the steps of an execution one after the other, such as the items of a
map of actors. Its job then returns for each of them. With the cache, the log is not read from its
beginning each time.
"""

from typing import Any, Final

from tailrace_shared.caching.ttl_cache import CallLater, TtlCache

_MAX_BYTES: Final = 32 * 1024 * 1024
_TTL_S: Final = 60.0
# Measured on drives of small and large runs, including their state.
_BYTES_PER_EXECUTION: Final = 8 * 1024
_BYTES_PER_NODE: Final = 128
_BYTES_PER_LOG_BYTE: Final = 3


def execution_cache(call_later: CallLater) -> TtlCache[tuple[str, str], Any]:
    """Return an empty cache by tenant and execution, weighed in bytes."""
    return TtlCache(_MAX_BYTES, _TTL_S, call_later=call_later)


def memory_of(log_bytes: int, nodes: int) -> int:
    """Estimate the memory in bytes that an execution takes, from its log's size and its nodes."""
    return _BYTES_PER_EXECUTION + _BYTES_PER_NODE * nodes + _BYTES_PER_LOG_BYTE * log_bytes
