"""What all streams of a process share: clock, timers, cooperative scheduling, limits, counters."""
