"""CEL expressions and templates in definitions."""
