"""Keep credentials and sensitive values from being shown. Pure.

The code base uses one vocabulary:

* A *secret* is a credential of a node. It is never recorded.
* A *sensitive* value is recorded, because the engine needs it. The event marks it by a JSON
  Pointer (field ``sensitive``).
* To *mask* is to replace marked values when an event or document is shown.
* To *redact* is to find values in a text or document, by their content, and to replace them.
"""
