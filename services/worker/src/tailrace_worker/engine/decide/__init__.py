"""Decide what happens next in an execution. Pure: no clock, no I/O, no await.

``plan`` prepares a definition, ``scheduler`` decides, ``maps`` counts the items of a map,
``outcomes`` turns the outcome of an attempt into an event, ``retry_policy`` computes delays,
``reorder`` tells whether two writers' events commute, ``sensitivity`` marks sensitive places in
events.
"""
