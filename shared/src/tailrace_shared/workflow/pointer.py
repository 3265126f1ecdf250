"""JSON Pointers (RFC 6901): how a problem says where it is."""


def join(pointer: str, *tokens: str | int) -> str:
    """Return the pointer to what ``tokens``, keys and indexes, lead to from ``pointer``."""
    return pointer + "".join(
        "/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens
    )
