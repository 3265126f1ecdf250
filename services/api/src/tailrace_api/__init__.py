"""Tailrace's API service: commands over HTTP, events over SSE, no state of its own."""
