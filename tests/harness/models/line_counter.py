"""Count the lines of Python that some work executes.

Unlike seconds, the count is the same on a busy machine. It does not include C code, so it shows how
work grows, not how fast it is.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of(work: Callable[[], object]) -> int:
    """Return the number of lines of Python that ``work`` executes on this thread."""
    lines = 0

    def trace(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
