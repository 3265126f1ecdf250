"""Routes as declared operations: bodies, queries, problems and the OpenAPI description."""
