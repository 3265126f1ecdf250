"""Who asks: tokens, the keys that they are checked with, tickets, and what each may call."""
