"""Issue and check tickets, short-lived credentials that open one stream from a URL."""
