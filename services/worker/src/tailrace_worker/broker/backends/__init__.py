"""Dramatiq's rate limiter and result backends on NATS key-value buckets."""
