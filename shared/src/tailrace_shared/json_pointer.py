"""JSON Pointers (RFC 6901): the address of a value inside a JSON document."""


def join_pointer(pointer: str, *tokens: str | int) -> str:
    return pointer + "".join(
        "/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens
    )


def split_pointer(pointer: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
