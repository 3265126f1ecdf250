"""Drive one execution: read its log, decide, append, act.

A *drive* is one worker's activity on one execution, from the job that asks for it until the
execution ends or has nothing to do (``driver``). ``drives`` holds the drives of the worker,
``job_holder`` the jobs behind them.

**Turn by turn**

1. Collect facts: attempts that ended and their reports (``local_attempts``), child runs that ended
   (``children``), commits of others (``log_reader``).
2. Let the scheduler (``engine.decide``) fold the facts into the state and decide what follows from
   them, and from timers that are due.
3. Append facts and decisions as one commit (``log_writer``). The append is fenced: it succeeds only
   if its predecessor in the log is the one that this drive has seen.
4. Act on the commit: start attempts, register waits, start child runs, send messages to actors
   (``wait_effects``).

Nothing has an effect before it is in the log, so a crash between two steps loses no decision. The
effects of step 4 follow from the folded state and are idempotent: the next drive repeats them.

**Before the first turn and after the last**

``lifecycle`` admits an execution that has not started (``admission``: the concurrency limit of the
workflow; ``rerun``: completions that a rerun keeps), and updates indexes, parent and children when
it has ended.

**Two drivers**

Two workers may drive one execution: a job is delivered twice, or a frozen worker wakes up. Both
append, one fence fails, and the loser reads what was written (``local_state``):

* Another worker wrote: this drive is *displaced*. It cancels its attempts and leaves.
* Only actors wrote, about other steps: the turn is appended after that, unchanged
  (``decide.reorder``).
* The API wrote a command: the facts of the turn are recorded on the newer state, and the scheduler
  decides again.

**Hand-over**

A drive that finds running attempts in the log which are not its own (their worker crashed) records
them as lost and retries them. A stopping worker gives its attempts their grace, records the others
as handed over, and publishes a job for another worker. A drive that has only to wait, longer than
two seconds, leaves: a timer, a signal, a child run or a request brings a new job. Its execution
holds no thread meanwhile, and the drive resumes if it is still cached.
"""
