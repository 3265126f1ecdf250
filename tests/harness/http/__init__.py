"""HTTP in tests: proxies, browsers, token issuers and generated requests."""
