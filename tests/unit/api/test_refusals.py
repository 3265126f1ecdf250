"""Requests that the protocol refuses are all counted, and logged no more often than can be read."""

from structlog.testing import capture_logs

from tailrace_api.http.refusals import Refusals


def test_one_per_second_is_logged_and_all_are_counted() -> None:
    """The next log message contains the number of suppressed ones."""
    counted: list[int] = []
    moments = iter([10.0, 10.1, 10.9, 11.0, 12.5])
    refusals = Refusals(counted.append, lambda: next(moments))
    with capture_logs() as lines:
        for status in (408, 414, 431, 400, 408):
            refusals.note(status, f"no {status}", "192.0.2.1")
    assert counted == [408, 414, 431, 400, 408]
    line = {"event": "request refused", "log_level": "info", "client": "192.0.2.1"}
    assert lines == [
        {**line, "status": 408, "reason": "no 408"},
        {**line, "status": 400, "reason": "no 400", "suppressed": 2},
        {**line, "status": 408, "reason": "no 408"},
    ]
