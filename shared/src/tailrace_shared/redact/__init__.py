"""Redaction of credentials in text, and masking of sensitive values. Pure."""
