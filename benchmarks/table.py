"""Print results as a table or as JSON."""

import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print rows; all must have the same keys."""
    if as_json:
        sys.stdout.write(json.dumps(list(rows)) + "\n")
        return
    keys = list(rows[0])
    lines = [keys, *([str(row[key]) for key in keys] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(keys))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def spread(samples: Sequence[float], unit: float = 1e3) -> dict[str, float]:
    """Return the median and the 99th percentile, multiplied by ``unit`` (default: milliseconds)."""
    ordered = sorted(samples)
    worst = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {
        "median": round(statistics.median(ordered) * unit, 2),
        "p99": round(worst * unit, 2),
    }
