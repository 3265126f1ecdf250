"""How the C library keeps memory that Python has freed."""

import ctypes
import os
from typing import Final

# Of ``mallopt``, from glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE_BYTES: Final = 256 * 1024
_UNUSED_BYTES: Final = 1024 * 1024
# Settings of an operator, which take precedence.
_VARIABLES: Final = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def return_freed_memory() -> None:
    """Let this process give large blocks back to the system as soon as they are freed.

    Otherwise glibc raises the size from which it does so with each large block, up to 32 MiB. A
    process that once held many outputs or bodies of some MiB would stay that large for good.
    It has no effect with another C library, or if one of glibc's own variables is set.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _UNUSED_BYTES)
