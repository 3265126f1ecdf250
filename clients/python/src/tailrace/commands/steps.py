"""Steps of a run that are named on the command line."""

import difflib
from collections.abc import Mapping
from typing import Any

from tailrace.errors import TailraceError


def step_of(run: Mapping[str, Any], node: str) -> Mapping[str, Any]:
    """Return a step of a run's document by the id of its node, or of an item of a map.

    Raises:
        TailraceError: with the most similar id; there is no such step.
    """
    steps = {step["node_id"]: step for step in run["steps"]}
    if node not in steps:
        near = difflib.get_close_matches(node, steps, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise TailraceError(f"the run has no step {node!r}{hint}")
    found: Mapping[str, Any] = steps[node]
    return found
