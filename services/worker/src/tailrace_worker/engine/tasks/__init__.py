"""Building blocks of asyncio code: retries, wake-ups, background tasks, a cache of executions."""
