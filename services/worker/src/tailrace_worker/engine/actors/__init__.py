"""Run attempts of actor nodes, and start scheduled runs, in Dramatiq actors.

The worker that drives an execution records that a step waits for an actor, and sends a message
(``services.actor_job``). A worker that has the function takes the message (``actor_runner``). From
then on it is responsible for the attempt (``actor_attempt``): it records the start, runs the
function on the Dramatiq thread that took the message (``thread_executor``), records the end, and
wakes the driver. Its appends are fenced, but name no writer, so they do not displace the driver
(``live_log``).

However often a message is delivered, an attempt starts once: its start is appended only while the
step waits (``decision``). The receiver of a message whose attempt has started asks whether a worker
still runs it (``services.liveness``). If none does, it records the attempt as lost; a lost attempt
is never resumed.
"""
