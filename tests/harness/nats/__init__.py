"""NATS servers for tests: one node, a cluster, a container."""
