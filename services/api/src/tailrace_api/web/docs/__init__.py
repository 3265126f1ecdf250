"""The documentation page, built from the OpenAPI description."""
