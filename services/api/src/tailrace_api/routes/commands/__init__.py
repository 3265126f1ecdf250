"""Routes that change executions: commands and triggers."""
