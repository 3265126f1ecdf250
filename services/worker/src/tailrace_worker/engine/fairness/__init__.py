"""Fair shares of worker slots between tenants."""
