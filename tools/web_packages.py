"""Check the web packages: format and lint, types, manifests, sizes.

``python -m tools.web_packages`` needs Node 20 and the packages that ``npm ci`` installs in
``clients/web``. Without them it prints a note, and fails only in CI.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

WEB: Final = Path(__file__).parents[1] / "clients/web"


def missing_tool() -> str | None:
    """Return the missing tool and how to install it; None if none is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node is missing: install Node 20, and run `npm ci` in clients/web"
    if not (WEB / "node_modules").is_dir():
        return "packages of clients/web are missing: run `npm ci` in clients/web"
    return None


def main() -> int:
    """Run the checks; return their exit code."""
    missing = missing_tool()
    if missing is not None:
        print(f"web packages: not checked. {missing}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    return subprocess.run(["npm", "run", "--silent", "check"], cwd=WEB, check=False).returncode  # noqa: S607 - the npm that the developer uses


if __name__ == "__main__":
    sys.exit(main())
