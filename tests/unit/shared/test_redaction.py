"""Redaction of credentials in texts."""

import pytest

from tailrace_shared.redact.credentials import redact_credentials

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TOKEN, "***"),
        (f"a {TOKEN}, b", "a ***, b"),
        (TOKEN[:30], "***"),
        (f"Bearer {TOKEN}", "Bearer ***"),
        ("trt_c29tZXRoaW5n.c2lnbmF0dXJl", "***"),
        ("/x?Authorization=Bearer%20opaque&y=1", "/x?Authorization=***&y=1"),
        ("/x?authorization=Bearer+opaque", "/x?authorization=***"),
        ("/x/Authorization=Bearer opaque", "/x/Authorization=***"),
        ("/a/ticket=x/b/access_token=y z", "/a/ticket=***access_token=*** z"),
        ("?access_token%3Dopaque", "?access_token%3D***"),
        ("Authorization: Bearer 0123456789abcdef", "Authorization: Bearer ***"),
        ("nats://user:password@host:4222", "nats://user:***@host:4222"),
        ("tls://t0ken@a:4222,nats://t0ken@b", "tls://***@a:4222,nats://***@b"),
    ],
)
def test_credentials_are_redacted(text: str, shown: str) -> None:
    """Tokens are found by their form, other credentials by their prefix."""
    assert redact_credentials(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the token has expired",
        "send a token in the header Authorization: Bearer <token>",
        "/api/v1/sse/tickets",
        "nats://127.0.0.1:4222",
        "http://[::1]:8080/x",
        "a ticket: 17",
        "the bearer of this",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    """Logs must stay readable."""
    assert redact_credentials(text) == text


def test_redaction_takes_linear_time() -> None:
    """Clients can influence log lines, so a quadratic pattern would be an attack vector."""
    for part in ("eyJ", "bearer ", "://", "authorization=", "://a:", "trt_aaaaaaa.", "a" * 64):
        assert redact_credentials(part * (400_000 // len(part)))
