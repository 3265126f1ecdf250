"""Actor nodes: attempts that Dramatiq carries to whichever worker is free.

The worker that drives the execution records that the step waits for an actor and sends a message
(``actor_job``). A worker that has the function takes it, and from there attends to the attempt by
itself: it begins it in the log, runs the function on the Dramatiq thread that took the message,
records how it ended, and has the execution driven on. Its appends are fenced like everybody's but
name no writer, so they do not displace the driver.

Whatever becomes of messages, an attempt begins once: its beginning is an append that only holds
while the step waits. A message that finds the attempt begun asks whether anybody attends to it
(``decision``, ``liveness``); a lost attempt is recorded as such and never run again.
"""
