"""Fault campaigns: random executions on workers that are killed."""
