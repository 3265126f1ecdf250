"""Stream one execution, with each event as it is stored, under its own name.

Names and fields are those that existing front ends of this stream expect.
"""

from typing import Final

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_shared.subjects import LogFilter


class _Execution(Dialect):
    __slots__ = ()

    name = "execution"
    is_verbatim = True

    def greet(self, part: LogFilter, milliseconds: int) -> Block:
        del milliseconds
        return Block("connected", msgspec.json.encode({"execution_id": part.execution}))

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del context
        return (Block(event.type, bytes(stored)),)


EXECUTION: Final = _Execution()
