"""The durable engine: a pure scheduler, and an orchestrator that carries out what it decides."""
