"""Authentication and authorization: tokens, keys, tickets, scopes and tenants."""
