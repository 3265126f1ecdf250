"""Find the examples, and the settings that a worker needs to run them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tailrace.errors import StartError

_NODES: Final = "purchase_order.nodes"
_SECRET: Final = "TAILRACE_SECRET_CREDIT_TOKEN"  # noqa: S105 - the name of a variable


def folder() -> Path:
    """Return the folder of the examples, in the installed package or in a checkout.

    Raises:
        StartError: this installation has no examples.
    """
    package = Path(__file__).parents[1]
    checkout = (package / "../../../..").resolve()
    for candidate in (package / "examples", checkout / "examples"):
        if (candidate / "purchase_order").is_dir():
            return candidate
    raise StartError("this installation of Tailrace has no examples; omit --demo")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` extended by the node types of the examples."""
    modules = [environment.get("TAILRACE_NODES", ""), _NODES]
    paths = [str(folder()), environment.get("PYTHONPATH", "")]
    return {
        **environment,
        "TAILRACE_NODES": ",".join(filter(None, modules)),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # The customer check asks this API, with a secret that it does not need.
        "TAILRACE_HTTP_ALLOW": environment.get("TAILRACE_HTTP_ALLOW", "127.0.0.1/32"),
        _SECRET: environment.get(_SECRET, "of-the-demo"),
    }
