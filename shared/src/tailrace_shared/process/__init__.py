"""Logging, readiness and settings of a service process."""
