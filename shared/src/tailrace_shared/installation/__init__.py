"""The state of a whole installation as NATS knows it: work for workers, streams, queues."""
