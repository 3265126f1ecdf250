"""HTTP to one API: requests, retries of what is safe to repeat, problems as errors."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import msgspec

from tailrace.errors import Problem, RefusedError, UnreachableError

ATTEMPTS: Final = 3
FIRST_PAUSE: Final = 0.2
_SCHEMES: Final = frozenset({"http", "https"})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_UNAUTHORIZED: Final = 401
_BODY_HEADERS: Final = {"Content-Type": "application/json"}
# A connection that ended under way; one that was kept open too long ends like this, too.
_BROKEN: Final = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class _ProblemPlace(msgspec.Struct):
    pointer: str = ""
    detail: str = ""


class _ProblemDocument(msgspec.Struct):
    title: str = ""
    detail: str = ""
    errors: list[_ProblemPlace] = []


class Transport:
    """Requests to one API with one token, over kept connections.

    Args:
        url: where the API is.
        token: what it is shown; empty where it asks for none.
        organization: whose executions these are; empty for the token's only one.
        timeout: how long an answer may take, in seconds.
        sleep: how pauses are made.

    Raises:
        UnreachableError: ``url`` is none that could be asked.
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
        self.url = url.rstrip("/")
        self.sleep = sleep
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if organization:
            headers["X-Organization-ID"] = organization
        try:
            base = httpx.URL(self.url)
            self.http = httpx.Client(
                base_url=base,
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=5.0),
                # A proxy that the environment names cannot reach what runs on this machine.
                trust_env=base.host not in _LOOPBACK,
                # To read the certificate authorities takes longer than most commands.
                verify=base.scheme != "http",
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise UnreachableError(f"{url!r} is not a URL: {error}") from None
        if base.scheme not in _SCHEMES or not base.host:
            self.http.close()
            raise UnreachableError(
                f"{url!r} is not a URL of an API; write for example http://127.0.0.1:8080"
            )

    def close(self) -> None:
        """Close the kept connections."""
        self.http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """Send a request and return the decoded answer.

        Only what may be repeated is sent here: reads, idempotent writes, and POSTs that carry an
        Idempotency-Key. So a connection that broke under way is tried again.

        Raises:
            RefusedError: the API answered with a problem.
            UnreachableError: no answer.
        """
        request = self.http.build_request(
            method,
            path,
            content=body,
            headers={**_BODY_HEADERS, **(headers or {})} if body is not None else headers,
            params={key: value for key, value in (query or {}).items() if value is not None},
        )
        answer = self._send(request)
        if answer.is_success:
            return msgspec.json.decode(answer.content) if answer.content else None
        raise refusal(answer)

    def _send(self, request: httpx.Request) -> httpx.Response:
        failures = 0
        while True:
            try:
                return self.http.send(request)
            except _BROKEN as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise self.unreachable(error) from None
                self.sleep(FIRST_PAUSE * 2 ** (failures - 1))
            except httpx.TransportError as error:
                # Nobody listens, or nobody answers in time: to ask again would only delay this.
                raise self.unreachable(error) from None

    def unreachable(self, error: Exception) -> UnreachableError:
        """Return the error that says in one line that the API does not answer."""
        reason = str(error) or type(error).__name__
        return UnreachableError(
            f"cannot reach {self.url}: {reason}. Start it with `tailrace up`, or set TAILRACE_URL"
        )


def refusal(answer: httpx.Response) -> RefusedError:
    """Read a refusal: a problem document, or whatever a proxy in between has to say."""
    try:
        document = msgspec.json.decode(answer.content, type=_ProblemDocument)
    except msgspec.DecodeError:
        document = _ProblemDocument()
    title = document.title or f"{answer.status_code} {answer.reason_phrase}"
    detail = document.detail
    if answer.status_code == _UNAUTHORIZED and "Authorization" not in answer.request.headers:
        # What the API says is about headers, which nobody sets here.
        detail = "the API asks for a token: set TAILRACE_TOKEN"
    places = tuple(Problem(place.pointer, place.detail) for place in document.errors)
    return RefusedError(answer.status_code, title, detail, places)
