"""Routes for commands and triggers, which change executions."""
