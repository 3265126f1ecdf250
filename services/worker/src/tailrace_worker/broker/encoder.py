"""A message encoder that is faster and stricter than Dramatiq's own and writes the same JSON."""

from typing import Any, Final

import msgspec
from dramatiq import Encoder
from dramatiq.errors import DecodeError

from tailrace_shared.json_encoding import encode_finite

_decode_any: Final = msgspec.json.Decoder().decode


class MsgspecEncoder(Encoder):
    """Encodes messages as JSON with msgspec; install it with ``dramatiq.set_encoder``.

    Arguments may also be dates, UUIDs, decimals, sets, bytes, dataclasses and msgspec structs; an
    actor receives them as JSON values.
    """

    def encode(self, data: dict[str, Any]) -> bytes:
        """Return the fields of a message, or a result, as JSON.

        Raises:
            ValueError: a part is not JSON, for example NaN; the message says where.
        """
        return encode_finite(data)

    def decode(self, data: bytes) -> dict[str, Any]:
        """Return the fields of a message, or a result.

        Raises:
            DecodeError: ``data`` is not JSON.
        """
        try:
            fields: dict[str, Any] = _decode_any(data)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"failed to decode message {data[:100]!r}", data, error) from None
        return fields
