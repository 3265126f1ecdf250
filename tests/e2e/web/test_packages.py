"""The tests of the web packages, and their fold against the server's.

``npm test`` in ``clients/web`` runs the same tests alone, except that of the fold.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from harness.processes.required_tools import skip_or_fail
from harness.web.fold_cases import write
from tools.web_packages import WEB, missing_tool

_FILES: Final = sorted(
    str(file.relative_to(WEB)) for file in WEB.glob("packages/*/test/**/*.test.ts*")
)
_GENERATED_LOGS: Final = 2_000


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run all of them once, and return their results by file."""
    missing = missing_tool()
    if missing is not None:
        skip_or_fail("a tool of the web packages", missing)
    folder = tmp_path_factory.mktemp("web")
    write(folder / "cases.jsonl", _GENERATED_LOGS)
    report = folder / "report.json"
    command = ["npx", "vitest", "run", "--reporter=json", f"--outputFile={report}"]
    environment = {**os.environ, "TAILRACE_FOLD_CASES": str(folder / "cases.jsonl")}
    ended = subprocess.run(
        command, cwd=WEB, env=environment, capture_output=True, text=True, check=False
    )
    assert report.exists(), ended.stdout + ended.stderr
    by_file = json.loads(report.read_bytes())["testResults"]
    return {str(Path(each["name"]).relative_to(WEB)): each for each in by_file}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("file", _FILES)
def test_the_tests_of_a_file_pass(results: dict[str, Any], file: str) -> None:
    result = results[file]
    failed = [
        f"{test['fullName']}\n" + "\n".join(test["failureMessages"])
        for test in result["assertionResults"]
        if test["status"] != "passed"
    ]
    assert not failed, "\n\n".join(failed)
    assert result["status"] == "passed", result["message"]
    assert result["assertionResults"]
