"""The alert rules and dashboards: generated, documented, and tested by promtool."""

import re
import shutil
import subprocess

from harness.processes.required_tools import skip_or_fail
from tools.observability import ALERTS, ROOT, RULES, TESTS, files, rules

SECTIONS = ["Meaning", "Impact", "Look", "Fix", "Verify"]


def _promtool(*arguments: str) -> str:
    """Run promtool; return what it prints. Debian's package `prometheus` has it."""
    program = shutil.which("promtool")
    if program is None:
        skip_or_fail("promtool", "apt-get install prometheus")
    ended = subprocess.run(
        [program, *arguments], cwd=ALERTS, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_files_are_those_that_are_generated():
    """Run `just fmt` after a change of tools/observability.py."""
    for path, text in files().items():
        assert path.read_text() == text, path


def test_every_alert_has_a_duration_a_severity_and_a_runbook():
    """A runbook has the same five sections as the others."""
    names = set()
    for group in rules()["groups"]:
        for rule in group["rules"]:
            names.add(rule["alert"])
            assert re.fullmatch("[1-9][0-9]*[mh]", rule["for"])
            assert rule["labels"]["severity"] in {"page", "ticket"}
            text = (ROOT / rule["annotations"]["runbook"]).read_text()
            assert re.findall("^## (.*)$", text, re.MULTILINE) == SECTIONS, rule["alert"]
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} == names


def test_each_alert_fires_for_its_cause_and_not_before_its_time():
    assert "SUCCESS" in _promtool("check", "rules", RULES)
    assert "SUCCESS" in _promtool("test", "rules", TESTS)
