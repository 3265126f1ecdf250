"""What all fan-out shares: cooperative scheduling, the timer wheel and counters."""
