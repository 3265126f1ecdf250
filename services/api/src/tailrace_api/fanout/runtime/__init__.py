"""Services that all streams of a process share: clock, timers, scheduler, limits, counters."""
