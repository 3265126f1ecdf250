"""ASGI middleware around all routes: access log, CORS and CSRF protection."""
