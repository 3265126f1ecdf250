"""Classes within a queue: high before normal before low, across all workers.

Dramatiq sorts by an actor's ``priority`` only what one worker has prefetched. Here a class is a
subject of its own, and workers take from a lower one only when the higher ones are empty.

A message's class is that of its option ``priority_class``, or else of its actor's: the option
``priority_class`` given at declaration, or the sign of Dramatiq's ``priority`` (lower is sooner).
A queue has classes if one of its actors has, or if the broker was told so; workers and producers
have to agree on that, so declare the same actors in both.
"""

from typing import Any, Final

from dramatiq import Actor, Message

HIGH: Final = "high"
NORMAL: Final = "normal"
LOW: Final = "low"
CLASSES: Final = (HIGH, NORMAL, LOW)
OPTION: Final = "priority_class"


def class_of_actor(actor: "Actor[..., Any]") -> str:
    """Return the class of an actor's messages.

    Raises:
        ValueError: its ``priority_class`` is none of the three.
    """
    chosen = actor.options.get(OPTION)
    if chosen is not None:
        return _check(chosen)
    return NORMAL if actor.priority == 0 else HIGH if actor.priority < 0 else LOW


def class_of_message(message: "Message[Any]", actor: "Actor[..., Any] | None") -> str:
    """Return the class of a message.

    Raises:
        ValueError: its option ``priority_class`` is none of the three.
    """
    chosen = message.options.get(OPTION)
    if chosen is not None:
        return _check(chosen)
    return NORMAL if actor is None else class_of_actor(actor)


def _check(chosen: Any) -> str:
    if chosen not in CLASSES:
        raise ValueError(f"{OPTION} is {chosen!r}: use one of {', '.join(CLASSES)}")
    return str(chosen)
