"""The Helm chart, rendered."""

import json
import os
import re
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


class _Loader(yaml.CSafeLoader):
    """Reads numbers as Kubernetes does: PyYAML takes 1e3 for text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Refused(Exception):  # noqa: N818 - it is what a test expects, not an error of the test
    """Helm refused the values; the text says why."""


class Chart:
    """The chart, rendered with values."""

    def __init__(self, helm: str, folder: Path, chart: Path = CHART) -> None:
        self._helm = helm
        self._folder = folder
        self._chart = chart

    def render(
        self, values: Mapping[str, Any], *options: str, release: str = "demo"
    ) -> list[Resource]:
        """Return the resources.

        Raises:
            Refused: the schema or the chart refuses the values.
        """
        path = self._folder / "values.yaml"
        # PyYAML would write "1e3" without quotes, which is a number for Helm.
        path.write_text(json.dumps(dict(values), ensure_ascii=False))
        result = subprocess.run(
            [self._helm, "template", release, str(self._chart), "--values", str(path), *options],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HELM_CACHE_HOME": str(self._folder)},
        )
        if result.returncode:
            raise Refused(result.stderr)
        return [each for each in yaml.load_all(result.stdout, _Loader) if each]


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
