"""The alert rules and dashboards: generated, documented, and tested by promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from harness.processes.required_tools import skip_or_fail
from tools.observability import ALERTS, CAUSES, ROOT, RULES, SLOS, TESTS, files, metrics_of, rules

GROWS = "0+60x200"
HEALTHY = {
    'tailrace_api_request_seconds_count{operation="POST /api/v1/workflows/{workflow_id}/runs",'
    'code="2xx"}': GROWS,
    'tailrace_api_request_seconds_bucket{operation="POST /api/v1/workflows/{workflow_id}/runs",'
    'code="2xx",le="1.0"}': GROWS,
    "tailrace_worker_queue_wait_seconds_count": GROWS,
    'tailrace_worker_queue_wait_seconds_bucket{le="2.0"}': GROWS,
    "tailrace_api_hub_lag_seconds_count": GROWS,
    'tailrace_api_hub_lag_seconds_bucket{le="1.0"}': GROWS,
    'tailrace_api_stream_resumes_total{source="ring"}': GROWS,
    'tailrace_jobs_oldest_seconds{queue="executions"}': "1+0x200",
    'tailrace_jobs_queued{queue="executions"}': "5+0x200",
    'tailrace_broker_in_flight{queue="executions"}': "1+0x200",
    'tailrace_worker_drives_total{outcome="finished"}': GROWS,
    "tailrace_worker_overdue_executions": "0+0x200",
    'tailrace_worker_retries_total{cause="crash"}': "0+0x200",
    "tailrace_dead_letters": "0+0x200",
    'tailrace_api_streams_refused_total{reason="full"}': "0+0x200",
    'tailrace_api_streams{instance="a"}': "3000+0x200",
    'tailrace_api_streams{instance="b"}': "2800+0x200",
    'tailrace_api_streams{instance="c"}': "2900+0x200",
    "tailrace_api_stream_gap_events_total": "0+0x200",
    'tailrace_api_loop_stall_seconds_bucket{instance="a",le="0.25"}': GROWS,
    'tailrace_api_loop_stall_seconds_bucket{instance="a",le="1.0"}': GROWS,
    'tailrace_api_loop_stall_seconds_bucket{instance="a",le="+Inf"}': GROWS,
    'tailrace_nats_connected{instance="a"}': "1+0x200",
    'tailrace_nats_stores{instance="a"}': "1+0x200",
    'tailrace_nats_replicas_current{stream="EVENTS"}': "3+0x200",
    'tailrace_nats_replicas_wanted{stream="EVENTS"}': "3+0x200",
    'tailrace_nats_store_ratio{stream="EVENTS"}': "0.2+0x200",
    'tailrace_worker_commit_seconds_bucket{result="stored",le="0.5"}': GROWS,
    'tailrace_worker_commit_seconds_bucket{result="stored",le="1.0"}': GROWS,
    'tailrace_worker_commit_seconds_bucket{result="stored",le="+Inf"}': GROWS,
    'tailrace_build_info{version="0.3.0"}': "1+0x200",
    'up{job="monitoring/tailrace",instance="a"}': "1+0x200",
}
"""Series of an installation that does its work, by which no alert fires."""

DRILLS: dict[str, dict[str, str]] = {
    "": {},
    **{f"{slo.name}ErrorBudget": slo.bad_series for slo in SLOS},
    **{alert.name: alert.series for alert in CAUSES},
    # The default pool works. What JetStream has in flight is what a killed worker held.
    "QueueWithoutWorkers": {
        'tailrace_jobs_oldest_seconds{queue="node.mail"}': "100+60x200",
        'tailrace_jobs_queued{queue="node.mail"}': "5+0x200",
        'tailrace_jobs_in_flight{queue="node.mail"}': "1+0x200",
    },
    # A worker that drives nothing is what the queue waits for.
    "NoWorkerTakesJobs": {
        'tailrace_jobs_oldest_seconds{queue="executions"}': "100+60x200",
        'tailrace_worker_drives_total{outcome="finished"}': "9+0x200",
    },
}
"""The series that each alert's cause changes; without a cause nothing fires."""

SECTIONS = ["Meaning", "Impact", "Look", "Fix", "Verify"]


def _promtool(*arguments: str) -> str:
    """Run promtool; return what it prints. Debian's package `prometheus` has it."""
    program = shutil.which("promtool")
    if program is None:
        skip_or_fail("promtool", "apt-get install prometheus")
    ended = subprocess.run(
        [program, *arguments], cwd=ALERTS, capture_output=True, text=True, timeout=280, check=False
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


def test_a_cause_raises_its_own_alert_and_no_other(tmp_path: Path):
    """Each drill changes the series of one cause in an installation that is well otherwise."""
    names = {rule["alert"] for group in rules()["groups"] for rule in group["rules"]}
    assert DRILLS.keys() - {""} == names
    document = {
        "rule_files": [str(ALERTS / RULES)],
        "evaluation_interval": "5m",
        "tests": [_drill(name, series) for name, series in DRILLS.items()],
    }
    path = tmp_path / "drills.yaml"
    path.write_text(yaml.safe_dump(document))
    assert "SUCCESS" in _promtool("test", "rules", str(path))


def test_the_healthy_series_are_those_of_all_alerts():
    """A metric that the drills do not have could not raise an alert in the wrong drill."""
    alerting = {rule["expr"] for group in rules()["groups"] for rule in group["rules"]}
    wanted = {name for each in alerting for name in metrics_of(each)}
    assert wanted <= {re.split("[{]", series)[0] for series in HEALTHY}


def _drill(name: str, series: dict[str, str]) -> dict[str, Any]:
    """Return a test of promtool: after two hours only one alert fires."""
    inputs = [{"series": each, "values": values} for each, values in {**HEALTHY, **series}.items()]
    firing = [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name else []
    check = {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": "2h",
        "exp_samples": firing,
    }
    return {
        "name": name or "nothing",
        "interval": "1m",
        "input_series": inputs,
        "promql_expr_test": [check],
    }
