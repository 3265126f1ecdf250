"""The API description in OpenAPI, and the HTML page built from it."""
