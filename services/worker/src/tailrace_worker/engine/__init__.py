"""Drive executions durably on the event loop of a worker.

``engine`` is the composition root. Below it, from top to bottom:

* ``drive``: one execution, turn by turn; ``actors``: attempts that Dramatiq carries to any worker
* ``services``: timers, clock, liveness, statistics and estimates, which both use
* ``run``: one attempt of one node; ``fairness``: slots shared between tenants; ``recovery``: jobs
  for executions that have lost theirs
* ``decide``: the pure core, which decides what happens next
* ``tasks``: retries, wake-ups and background tasks for asyncio code
"""
