"""The Helm chart, rendered."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.processes.required_tools import skip_or_fail
from tools.chart_schema import CHART
from tools.kubernetes_tools import FOLDER

Resource = dict[str, Any]


class Refused(Exception):  # noqa: N818 - it is what a test expects, not an error of the test
    """Helm refused the values; the text says why."""


class Chart:
    """The chart, rendered with values."""

    def __init__(self, helm: str, folder: Path) -> None:
        self._helm = helm
        self._folder = folder

    def render(self, values: Mapping[str, Any], *options: str) -> list[Resource]:
        """Return the resources.

        Raises:
            Refused: the schema or the chart refuses the values.
        """
        path = self._folder / "values.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        result = subprocess.run(
            [self._helm, "template", "demo", str(CHART), "--values", str(path), *options],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HELM_CACHE_HOME": str(self._folder)},
        )
        if result.returncode:
            raise Refused(result.stderr)
        return [each for each in yaml.safe_load_all(result.stdout) if each]


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return values with others at dotted paths."""
    result = values
    for path, value in changes.items():
        nested: Any = value
        for key in reversed(path.split(".")):
            nested = {key: nested}
        result = merged(result, nested)
    return result


def merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Return values with others over them, at every depth."""
    result = dict(values)
    for key, value in others.items():
        known = result.get(key)
        if isinstance(value, dict) and isinstance(known, dict):
            result[key] = merged(known, value)
        else:
            result[key] = value
    return result


def helm_program(name: str = "helm") -> str:
    """Return the path of Helm; skip the test if it is missing, or fail it in CI.

    Args:
        name: ``helm`` (version 4) or ``helm3``.
    """
    helm = FOLDER / name
    path = str(helm) if helm.exists() else shutil.which(name)
    if path is None:
        skip_or_fail(name, "python3 -m tools.kubernetes_tools")
    return path
