"""The stream of one execution: every event under its own name, as it is stored.

The names and fields are those that existing front ends of this stream listen for.
"""

from typing import Final

import msgspec

from tailrace_api.dialects.dialect import Dialect, LoggedEvent
from tailrace_api.sse import frame


def _greet(execution: str) -> bytes:
    # Without an id: it is not in the log, so nobody can resume from it.
    return frame.event(msgspec.json.encode({"execution_id": execution}), name="connected")


def _show(_execution: str, event_id: str, event: LoggedEvent, stored: msgspec.Raw) -> bytes:
    return frame.event(bytes(stored), name=event.type, event_id=event_id)


EXECUTION: Final = Dialect("execution", _greet, _show)
