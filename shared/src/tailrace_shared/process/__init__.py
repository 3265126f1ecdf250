"""What every service process needs: logs, readiness and the configuration page."""
