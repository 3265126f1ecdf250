"""Server states for tests of the web packages."""
