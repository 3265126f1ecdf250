"""JSON Schema (draft 2020-12) for inputs and forms."""
