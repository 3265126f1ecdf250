"""A long, random stress of whole executions, for when a change deserves more than the tests."""
