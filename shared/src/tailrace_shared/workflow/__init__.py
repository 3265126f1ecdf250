"""Workflow definitions: their structure, their expressions, and what makes one valid. Pure."""
