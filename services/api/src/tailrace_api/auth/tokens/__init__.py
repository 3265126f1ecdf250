"""Verify JSON Web Tokens and read their claims."""
