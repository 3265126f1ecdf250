"""The stores of an installation: the event log, definitions, outputs and indexes.

Every read and write raises ``UnavailableError`` if NATS does not answer. A docstring names it only
where it says more, for example whether the write may have happened.
"""
