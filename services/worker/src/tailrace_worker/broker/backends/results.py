"""A result backend on a JetStream key-value bucket."""

from typing import Any, Final

from dramatiq import Encoder, Message
from dramatiq.results import Missing, ResultBackend, ResultTimeout
from dramatiq.results.backend import DEFAULT_TIMEOUT

from tailrace_worker.broker.backends.bucket import BucketConnector, key_token
from tailrace_worker.broker.broker import NatsBroker

#: How long a blocking call waits for the loop beyond its own timeout.
_CALL_MARGIN_S: Final = 10.0


class NatsResultBackend(ResultBackend):
    """Stores results in NATS. A new result wakes its waiters, so nothing polls.

    Args:
        namespace: see :class:`dramatiq.results.ResultBackend`.
        encoder: encodes results; None for Dramatiq's global encoder.
        use_namespace_prefix_keys: see :class:`dramatiq.results.ResultBackend`.
    """

    def __init__(
        self,
        broker: NatsBroker,
        *,
        bucket: str = "results",
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = False,
    ) -> None:
        super().__init__(
            namespace=namespace,
            encoder=encoder,
            use_namespace_prefix_keys=use_namespace_prefix_keys,
        )
        self._bucket = BucketConnector(broker.connector, bucket)

    def get_result(
        self, message: "Message[Any]", *, block: bool = False, timeout: int | None = None
    ) -> Any:
        """Return a result.

        Args:
            timeout: milliseconds to wait; ten seconds by default.

        Raises:
            ResultMissing: there is no result, and ``block`` is False.
            ResultTimeout: there is no result after the timeout.
            ResultFailure: the actor failed.
        """
        if not block:
            return super().get_result(message)
        seconds = (DEFAULT_TIMEOUT if timeout is None else timeout) / 1000
        connection, bucket = self._bucket.get()
        key = _key(self.build_message_key(message))
        data = connection.call(lambda: bucket.wait(key, seconds), timeout=seconds + _CALL_MARGIN_S)
        if data is None:
            raise ResultTimeout(message)
        return self.unwrap_result(self.encoder.decode(data))  # type: ignore[no-untyped-call]

    def _get(self, message_key: str) -> Any:
        connection, bucket = self._bucket.get()
        data = connection.call(lambda: bucket.get(_key(message_key)))
        return Missing if data is None else self.encoder.decode(data)

    def _store(self, message_key: str, result: Any, ttl: int) -> None:
        connection, bucket = self._bucket.get()
        data = self.encoder.encode(result)
        connection.call(lambda: bucket.put(_key(message_key), data, ttl))


def _key(message_key: str) -> str:
    return ".".join(key_token(part) for part in message_key.split(":"))
