"""Cross-site requests that browsers send without a preflight."""

import pytest
from starlette.datastructures import Headers

from tailrace_api.middleware.csrf import host_of, is_cross_site, is_trusted_host

FORM = "application/x-www-form-urlencoded"
EVIL = "https://evil.example"


def _headers(**values: str) -> Headers:
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return Headers({"host": "127.0.0.1:8080", **named})


@pytest.mark.parametrize(
    "headers",
    [
        _headers(sec_fetch_site="cross-site", origin=EVIL),
        _headers(sec_fetch_site="cross-site"),
        _headers(sec_fetch_site="Cross-Site"),
        _headers(sec_fetch_site="something new"),
        _headers(origin=EVIL),
        _headers(origin="null"),
        _headers(origin="http://127.0.0.1.evil.example"),
        _headers(origin="http://localhost.evil.example:8080"),
        _headers(origin="http://[bad"),
        _headers(origin="http://other.example", host="api.example"),
    ],
)
@pytest.mark.parametrize(
    "content_type", [None, FORM, f"{FORM}; charset=utf-8", "text/plain", "multipart/form-data; b=c"]
)
def test_requests_without_preflight_are_cross_site(
    headers: Headers, content_type: str | None
) -> None:
    """Forms, bodies without a type, and origins that look similar."""
    given = dict(headers) | ({"content-type": content_type} if content_type else {})
    assert is_cross_site("POST", Headers(given), {"https://app.example"})
    assert is_cross_site("DELETE", Headers(given), set())
    assert not is_cross_site("GET", Headers(given), set())


@pytest.mark.parametrize(
    "headers",
    [
        _headers(),
        _headers(content_type=FORM),
        _headers(sec_fetch_site="same-origin", origin="http://127.0.0.1:8080"),
        # A page of a development server, directly or through its proxy.
        _headers(sec_fetch_site="same-site", origin="http://127.0.0.1:3000"),
        _headers(sec_fetch_site="same-origin", origin="http://localhost:5173"),
        _headers(origin="http://localhost:3000"),
        _headers(origin="http://app.localhost"),
        _headers(origin="http://[::1]:3000"),
        _headers(origin="https://api.example", host="api.example"),
        # Typed into the address bar, or a bookmark.
        _headers(sec_fetch_site="none"),
        # The browser has sent a preflight, which was accepted.
        _headers(sec_fetch_site="cross-site", origin=EVIL, content_type="application/json"),
        _headers(sec_fetch_site="cross-site", origin="https://app.example"),
    ],
)
def test_other_requests_are_not_cross_site(headers: Headers) -> None:
    """Programs, pages of this site, and pages of allowed origins."""
    assert not is_cross_site("POST", headers, {"https://app.example"})


def test_a_wildcard_origin_allows_all_pages() -> None:
    """The operator has configured it."""
    assert not is_cross_site("POST", _headers(sec_fetch_site="cross-site", origin=EVIL), {"*"})


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("127.0.0.1:8080", "127.0.0.1"),
        ("LocalHost", "localhost"),
        ("localhost.:80", "localhost"),
        ("[::1]:8080", "::1"),
        ("", ""),
        ("[bad", "[bad"),
    ],
)
def test_host_of_strips_port_and_case(authority: str, host: str) -> None:
    """It also strips a trailing dot."""
    assert host_of(authority) == host


@pytest.mark.parametrize("host", ["", "127.0.0.1", "127.8.9.1", "::1", "localhost", "a.localhost"])
def test_loopback_names_are_trusted(host: str) -> None:
    """No site can have such a name."""
    assert is_trusted_host(host, set())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "api",
        "ai",
        "10.0.0.1",
        "0.0.0.0",
        "fe80::1",
    ],
)
def test_a_rebound_host_name_is_not_trusted(host: str) -> None:
    """It is trusted only if the operator has configured it."""
    assert not is_trusted_host(host, {"tailrace.internal"})
    assert is_trusted_host(host, {host})
    assert is_trusted_host(host, {"*"})
