"""Views: a part of the log as a dialect shows it. Pure."""
