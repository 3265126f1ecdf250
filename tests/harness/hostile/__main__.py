"""Measure all attacks on a machine of its own: ``PYTHONPATH=tests python -m harness.hostile``.

It prints a line for each attack, and fails if an operation of the bystander took longer than its
limit on the clock. The test in CI, beside other tests, judges CPU times instead.
"""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from harness.hostile.attacks import ATTACKS
from harness.hostile.campaign import carry_out, limit_of
from harness.hostile.stack import hostile_stack


async def _main(names: list[str], seconds: float) -> int:
    slow: list[str] = []
    with tempfile.TemporaryDirectory() as folder, hostile_stack(Path(folder)) as stack:
        for name in names:
            outcome = await carry_out(stack, name, seconds)
            sys.stdout.write(f"{name}: {outcome}{'' if outcome.is_bounded else '; NOT REFUSED'}\n")
            sys.stdout.flush()
            slow += [
                f"{name}: {what} took {each.elapsed:.2f} s"
                for what, each in outcome.report.items()
                if each.elapsed > limit_of(what)
            ]
    sys.stdout.write("\n".join([*slow, ""]))
    return 1 if slow else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="harness.hostile", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(ATTACKS), help="attacks; all by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each lasts")
    options = parser.parse_args()
    sys.exit(asyncio.run(_main(options.names, options.seconds)))
