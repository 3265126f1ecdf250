"""The adapter to NATS JetStream: requests, fenced appends, buckets and topology."""
