"""Run history and estimates of the remaining time. Pure."""
