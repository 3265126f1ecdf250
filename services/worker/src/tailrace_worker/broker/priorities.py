"""Deliver high before normal before low priority within a queue, across all workers.

Dramatiq sorts by an actor's ``priority`` only what one worker has prefetched. Here a class is a
subject of its own, and workers pull from a lower class only when the higher ones are empty.

A message's class is its option ``priority_class``, or else its actor's class: the option
``priority_class`` given at declaration, or the sign of Dramatiq's ``priority`` (lower is sooner).
A queue has classes if one of its actors has one, or if the broker's ``priority_queues`` names it.
Workers and producers must agree on that, so declare the same actors in both.
"""

from collections.abc import Iterable
from typing import Any, Final

from dramatiq import Actor, Message

HIGH: Final = "high"
NORMAL: Final = "normal"
LOW: Final = "low"
CLASSES: Final = (HIGH, NORMAL, LOW)
OPTION: Final = "priority_class"


class PriorityQueues:
    """The queues that have priority classes.

    Args:
        names: queues that have them even if no declared actor has one.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)

    def add_actor(self, actor: "Actor[..., Any]") -> None:
        """Give the actor's queue classes if the actor has one.

        Raises:
            ValueError: the actor's ``priority_class`` is invalid.
        """
        if _class_of_actor(actor) != NORMAL:
            self._names.add(actor.queue_name)

    def class_of(self, message: "Message[Any]", actor: "Actor[..., Any] | None") -> str:
        """Return the class of a message.

        Args:
            actor: its actor; None if it is not declared in this process.

        Raises:
            ValueError: the class is invalid, or the queue has no classes.
        """
        chosen = message.options.get(OPTION)
        if chosen is not None:
            name = _check(chosen)
        else:
            name = NORMAL if actor is None else _class_of_actor(actor)
        if name != NORMAL and message.queue_name not in self._names:
            raise ValueError(
                f"queue {message.queue_name!r} has no priority classes: "
                "give one of its actors a priority, or name the queue in priority_queues"
            )
        return name

    def classes_of(self, queue: str) -> tuple[str, ...]:
        """Return the classes of a queue, the most urgent first."""
        return CLASSES if queue in self._names else (NORMAL,)


def _class_of_actor(actor: "Actor[..., Any]") -> str:
    chosen = actor.options.get(OPTION)
    if chosen is not None:
        return _check(chosen)
    return NORMAL if actor.priority == 0 else HIGH if actor.priority < 0 else LOW


def _check(chosen: Any) -> str:
    if chosen not in CLASSES:
        raise ValueError(f"{OPTION} is {chosen!r}: use one of {', '.join(CLASSES)}")
    return str(chosen)
