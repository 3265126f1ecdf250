"""A tenant's executions: their contexts, live status and snapshots."""
