"""What drives and attempts use: timers, clock, statistics, estimates and the sweeper."""
