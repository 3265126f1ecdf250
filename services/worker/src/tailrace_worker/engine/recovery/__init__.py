"""Bring back executions that have lost their job.

One worker at a time (a lease in NATS) sweeps: it reads the index of due executions and enqueues a
job for each one that is overdue, that no worker drives, and whose job is not in the backlog of the
queue. Correctness does not depend on it; without it an execution could stay where it is for ever
after a process died between two writes.
"""
