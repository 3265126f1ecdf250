"""Fuzz the parsers of untrusted input, longer than the tests do.

``PYTHONPATH=tests python -m fuzz --seconds 600 --target yaml`` tries the kept seeds and then random
changes of them. A finding is printed and kept: it is added to the seeds in ``fuzz/corpus``, which
the tests try each time. Without ``--target`` all targets get an equal share of the time.
"""

import argparse
import sys
import time

from fuzz.mutation import inputs
from fuzz.targets import TARGETS, keep, problem_of, seeds_of


def main() -> int:
    """Fuzz; return 1 if there were findings."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="what")
    parser.add_argument("--seed", default=str(time.time_ns()), help="repeats a run")
    options = parser.parse_args()
    names = options.target or sorted(TARGETS)
    _say(f"seed {options.seed}")
    findings = sum(fuzz(name, options.seconds / len(names), options.seed) for name in names)
    return 1 if findings else 0


def fuzz(name: str, seconds: float, seed: str) -> int:
    """Fuzz one target; return the number of different findings."""
    seeds, until = seeds_of(name), time.monotonic() + seconds
    known: set[str] = set()
    tried = 0
    for data in inputs(seeds, f"{name} {seed}"):
        if time.monotonic() > until:
            break
        tried += 1
        problem = problem_of(TARGETS[name], data)
        # Many inputs show the same finding.
        if problem is not None and problem[:40] not in known:
            known.add(problem[:40])
            keep(name, data)
            _say(f"{name}: {problem}\n    {data[:200]!r}")
    _say(f"{name}: {tried} inputs, {len(known)} findings")
    return len(known)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
