"""JSON Web Tokens: keys, verification and claims."""
