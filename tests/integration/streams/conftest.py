"""Streams and buckets of a test's own on the shared NATS."""

from harness.nats.site import site, site_settings

__all__ = ["site", "site_settings"]
