"""Routes that control executions: commands and triggers."""
