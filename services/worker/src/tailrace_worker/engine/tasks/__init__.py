"""Retries, wake-ups, background tasks and a TTL cache for asyncio code."""
