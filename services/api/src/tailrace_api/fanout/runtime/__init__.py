"""The clock, timers, scheduler, limits and counters that all streams of a process share."""
