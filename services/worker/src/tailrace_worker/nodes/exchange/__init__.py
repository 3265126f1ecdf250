"""Requests and responses of the ``http`` node as data: parameters checked, bodies decoded."""
