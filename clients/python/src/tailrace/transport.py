"""HTTP requests to one API, with retries of safe requests and problems as errors."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeVar

import httpx
import msgspec

from tailrace.errors import Problem, RefusedError, UnreachableError
from tailrace.operations import Call

T = TypeVar("T")

_MAX_TRIES: Final = 3
_FIRST_RETRY_S: Final = 0.2
_SCHEMES: Final = frozenset({"http", "https"})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_UNAUTHORIZED: Final = 401
_BODY_HEADERS: Final = {"Content-Type": "application/json"}
_HEADER_VALUE = re.compile(r"[ -~]+")
_CREDENTIALS = re.compile(r"^([^@\s]*//|)[^\n]*@")
# The connection broke during a request; an idle connection that the server closed ends so too.
_BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class _ProblemPlace(msgspec.Struct):
    pointer: str = ""
    detail: str = ""


class _ProblemDocument(msgspec.Struct):
    title: str = ""
    detail: str = ""
    errors: list[_ProblemPlace] = []


class _Address(NamedTuple):
    """The URL of an API, without credentials for messages, and the options of an HTTP client."""

    shown: str
    options: dict[str, Any]


def _address(url: str, token: str, organization: str, timeout: float) -> _Address:
    """Check where requests go.

    Raises:
        UnreachableError: ``url``, ``token`` or ``organization`` is not usable.
    """
    address = url.strip().rstrip("/")
    shown = without_credentials(address)
    headers = _headers(token.strip(), organization.strip())
    try:
        base = httpx.URL(address)
    except (httpx.InvalidURL, UnicodeEncodeError) as error:
        # The reason may quote the credentials.
        reason = f": {error}" if shown == address else ""
        raise UnreachableError(f"{shown!r} is not a URL{reason}") from None
    if base.scheme not in _SCHEMES or not base.host:
        raise UnreachableError(
            f"{shown!r} is not a URL of an API; write for example http://127.0.0.1:8080"
        )
    options: dict[str, Any] = {
        "base_url": base,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=5.0),
        # A proxy from the environment cannot reach this machine.
        "trust_env": base.host not in _LOOPBACK,
        # Loading the certificate authorities takes longer than most commands.
        "verify": base.scheme != "http",
    }
    return _Address(shown, options)


class Endpoint:
    """The address of an API, and the errors of both transports.

    Args:
        url: URL of the API. Credentials in it (``user:password@``) never appear in messages.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def document(self, answer: httpx.Response) -> Any:
        """Return the decoded response.

        Raises:
            RefusedError: it is a problem.
            UnreachableError: it is not JSON.
        """
        if not answer.is_success:
            raise refusal(answer)
        if not answer.content:
            return None
        try:
            return msgspec.json.decode(answer.content)
        # A page of a proxy, for example.
        except (ValueError, RecursionError):
            raise UnreachableError(
                f"{self.url} does not answer like an API of Tailrace: the response is not JSON"
            ) from None

    def unreachable(self, error: Exception) -> UnreachableError:
        """Return the error for an API that does not respond, as a one-line message."""
        reason = without_credentials(str(error)).removesuffix(".") or type(error).__name__
        return UnreachableError(
            f"cannot reach {self.url}: {reason}. Start it with `tailrace up`, or set TAILRACE_URL"
        )


class Transport(Endpoint):
    """Requests to one API with one token, over persistent connections.

    All requests are safe to repeat: reads, idempotent writes, and POSTs with an Idempotency-Key. A
    request whose connection broke is therefore retried.

    Args:
        url: URL of the API. Credentials in it (``user:password@``) never appear in messages.
        token: bearer token; empty without authentication.
        organization: organisation of the requests; empty if the token has only one.
        timeout: longest wait for a response, in seconds.
        sleep: function that sleeps for some seconds; replaced in tests.

    Raises:
        UnreachableError: ``url``, ``token`` or ``organization`` is not usable.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        organization: str = "",
        timeout: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        address = _address(url, token, organization, timeout)
        super().__init__(address.shown)
        self.sleep = sleep
        self.http = httpx.Client(**address.options)

    def close(self) -> None:
        self.http.close()

    def send(self, call: Call[T]) -> T:
        """Send a request and return its result.

        Raises:
            RefusedError: the API responded with a problem.
            UnreachableError: the API did not respond.
        """
        return call.into(self.document(self._send(_request(self.http, call))))

    def _send(self, request: httpx.Request) -> httpx.Response:
        failures = 0
        while True:
            try:
                return self.http.send(request)
            except _BROKEN as error:
                failures += 1
                if failures == _MAX_TRIES:
                    raise self.unreachable(error) from None
                self.sleep(_FIRST_RETRY_S * 2 ** (failures - 1))
            except httpx.TransportError as error:
                # No listener, or no response in time: a retry would only delay the error.
                raise self.unreachable(error) from None


class AsyncTransport(Endpoint):
    """As :class:`Transport`, for an event loop."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        organization: str = "",
        timeout: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        address = _address(url, token, organization, timeout)
        super().__init__(address.shown)
        self.sleep = sleep
        self.http = httpx.AsyncClient(**address.options)

    async def close(self) -> None:
        await self.http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a request and return its result; see :meth:`Transport.send`."""
        return call.into(self.document(await self._send(_request(self.http, call))))

    async def _send(self, request: httpx.Request) -> httpx.Response:
        failures = 0
        while True:
            try:
                return await self.http.send(request)
            except _BROKEN as error:
                failures += 1
                if failures == _MAX_TRIES:
                    raise self.unreachable(error) from None
                await self.sleep(_FIRST_RETRY_S * 2 ** (failures - 1))
            except httpx.TransportError as error:
                raise self.unreachable(error) from None


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    headers = call.headers
    if call.body is not None:
        headers = {**_BODY_HEADERS, **(headers or {})}
    query = {key: value for key, value in (call.query or {}).items() if value is not None}
    return http.build_request(
        call.method, call.path, content=call.body, headers=headers, params=query
    )


def without_credentials(text: str) -> str:
    """Replace the user and password of URLs in a text."""
    # A password with a slash is no part of a valid URL, but it is still a password.
    return _CREDENTIALS.sub(r"\1***@", text)


def _headers(token: str, organization: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if organization:
        headers["X-Organization-ID"] = organization
    for name, value in headers.items():
        # The HTTP library quotes an illegal value in its error, and the token is a secret.
        if not _HEADER_VALUE.fullmatch(value):
            source = "token" if name == "Authorization" else "organization"
            raise UnreachableError(
                f"the {source} contains a line break or another character that HTTP does not allow"
            )
    return headers


def refusal(answer: httpx.Response) -> RefusedError:
    """Convert an error response (a problem document, or a proxy's page) to an error."""
    try:
        document = msgspec.json.decode(answer.content, type=_ProblemDocument)
    except (ValueError, RecursionError):
        document = _ProblemDocument()
    title = document.title or f"{answer.status_code} {answer.reason_phrase}"
    detail = document.detail
    if answer.status_code == _UNAUTHORIZED and "Authorization" not in answer.request.headers:
        # The API's detail names headers, which users of this client do not set.
        detail = "the API requires a token: set TAILRACE_TOKEN"
    places = tuple(Problem(place.pointer, place.detail) for place in document.errors)
    return RefusedError(answer.status_code, title, detail, places)
