"""A Prometheus that scrapes services of this machine, with alert rules whose time is compressed."""

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

import yaml

from harness.processes.ports import free_port
from harness.processes.required_tools import skip_or_fail

_PATIENCE_S: Final = 60.0
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"\b(\d+)([smhd])\b")


def compressed(rules: dict[str, Any], factor: int) -> dict[str, Any]:
    """Return alert rules whose windows and durations are shorter by a factor."""

    def shorter(text: str) -> str:
        return _DURATION.sub(
            lambda found: f"{int(found[1]) * _UNITS_MS[found[2]] // factor}ms", text
        )

    groups = [
        {
            **group,
            "rules": [
                {
                    **rule,
                    "expr": re.sub(r"\[[^]]+\]", lambda each: shorter(each[0]), rule["expr"]),
                    "for": shorter(rule["for"]),
                }
                for rule in group["rules"]
            ],
        }
        for group in rules["groups"]
    ]
    return {"groups": groups}


class Prometheus:
    """One Prometheus.

    Args:
        folder: for its configuration, data and log.
        ports: the ports of the services that it scrapes each second.
        rules: alert rules.
    """

    def __init__(self, folder: Path, ports: Iterable[int], rules: dict[str, Any]) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._url = f"http://127.0.0.1:{free_port()}"
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        targets = [f"127.0.0.1:{port}" for port in ports]
        configuration = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "tailrace", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        program = shutil.which("prometheus")
        if program is None:
            skip_or_fail("prometheus", "apt-get install prometheus")
        options = (
            f"--config.file={self._folder}/prometheus.yaml",
            f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address={self._url.removeprefix('http://')}",
        )
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + _PATIENCE_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_text = (self._folder / "prometheus.log").read_text()
                raise RuntimeError(f"Prometheus does not start: {log_text}")
            time.sleep(0.05)
        return self

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        with urllib.request.urlopen(f"{self._url}/api/v1/alerts", timeout=60) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE_S)
