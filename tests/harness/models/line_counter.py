"""How much work something is, counted in lines of Python and not in seconds.

A machine that is busy with something else makes a clock tell anything; lines are the same in
every run. What C code does within a line is not seen, so this tells growth, not speed.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_of(work: Callable[[], object]) -> int:
    """Return how many lines of Python ``work`` runs on this thread."""
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
