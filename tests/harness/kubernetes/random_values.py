"""Random values that a chart's schema accepts, with strings that YAML would misread unquoted."""

import random
from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

_MARK: Final = "§"
_MISREAD: Final = (
    *(
        "a: b",
        "a #b",
        "#",
        "'",
        '"',
        "\\",
        "\\n",
        "{{ a }}",
        "{a: b}",
        "[a",
        "- a",
        "*a",
        "&a",
    ),
    *(
        "!a",
        "%a",
        "@a",
        "`a`",
        "| a",
        "> a",
        "a\nb",
        "a\n---\nb: c",
        "\t",
        " ",
        "é€😀",
        "$(A)",
        ",",
    ),
)
"""Between two marks, so that a part of one is recognized."""
_OTHER_TYPES: Final = ("true", "no", "7", "0x7", "1e3", "1_000", "null", "~", "2026-11-30", "0o7")

# What the schema leaves to Kubernetes.
_PEERS: Final[tuple[Schema, ...]] = (
    {"podSelector": {}},
    {"namespaceSelector": {"matchLabels": {"name": "7"}}},
    {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
)
_OBJECTS: Final[dict[str, tuple[Schema, ...]]] = {
    "clients": _PEERS,
    "monitoring": _PEERS,
    "nats": _PEERS,
    "tracing": _PEERS,
    "egress": ({"to": [_PEERS[2]], "ports": [{"protocol": "TCP", "port": 443}]}, {}),
    "tolerations": ({"operator": "Exists"}, {"key": "a", "value": "true", "effect": "NoSchedule"}),
    "parentRefs": ({"name": "public"}, {"name": "7", "namespace": "true"}),
}
_NAMES: Final = {
    "workers": ("default", "7", "true", "a-b"),
    "config": ("TAILRACE_A", "TAILRACE_B", "TAILRACE_MAX_STORE_BYTES"),
}
_URLS: Final = ("https://a", "https://a:8443/b?c=d#e", "http://[fd00::1]:4318/a: #b'\"")
_WITH_PATTERN: Final = {
    "endpoint": _URLS,
    "jwksUrl": _URLS,
    "fullnameOverride": ("a", "7", "true", "1e3", "a-" * 30 + "b"),
}


class RandomValues:
    """Generates values for some of the keys of a schema.

    Args:
        seed: of the random numbers.
        schema: of the chart's values.
    """

    def __init__(self, seed: int, schema: Schema) -> None:
        self._random = random.Random(seed)
        self._schema = schema
        self._made: set[str] = set()

    def values(self) -> dict[str, Any]:
        """Return values."""
        properties = {**self._schema["properties"]}
        del properties["global"]
        return self._object({"properties": properties}, "")

    def is_whole(self, text: str) -> bool:
        """Return whether a rendered text has all of each marked string that is in it."""
        parts = text.split(_MARK)
        return len(parts) % 2 == 1 and self._made.issuperset(parts[1::2])

    def _value(self, schema: Schema, name: str) -> Any:
        if "$ref" in schema:
            schema = self._schema["$defs"][schema["$ref"].rpartition("/")[2]]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        kind = schema["type"]
        if not isinstance(kind, str):
            return self._random.choice([1, 3, "25%"])
        make = {
            "object": self._object,
            "array": self._list,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": self._boolean,
        }[kind]
        return make(schema, name)

    def _object(self, schema: Schema, name: str) -> dict[str, Any]:
        properties: dict[str, Schema] = schema.get("properties", {})
        if not properties:
            names = _NAMES.get(name, ("a", "example.com/b", "7", "true", self._string({}, "")))
            values: Schema = schema["additionalProperties"]
            properties = dict.fromkeys(names, values)
        return {
            key: self._value(each, key)
            for key, each in properties.items()
            if self._random.random() < 0.75
        }

    def _list(self, schema: Schema, name: str) -> list[Any]:
        length = self._random.randrange(3)
        if schema["items"]["type"] == "object":
            return [self._random.choice(_OBJECTS[name]) for _ in range(length)]
        return [self._value(schema["items"], "") for _ in range(length)]

    def _string(self, schema: Schema, name: str) -> str:
        if "pattern" in schema:
            return self._random.choice(_WITH_PATTERN[name])
        if self._random.random() < 0.3:
            return self._random.choice(_OTHER_TYPES)
        made = "".join(self._random.choices(_MISREAD, k=2)) + str(len(self._made))
        self._made.add(made)
        return f"{_MARK}{made}{_MARK}"

    def _integer(self, schema: Schema, _name: str) -> int:
        # Helm would print a million as 1e+06.
        least = schema.get("minimum", 0)
        most = least + self._random.choice([10, 2_000, 10_000_000])
        return self._random.randint(least, min(schema.get("maximum", most), most))

    def _number(self, schema: Schema, _name: str) -> float:
        choices: list[float] = [schema["minimum"], 0.00001, 0.5, schema["maximum"]]
        return self._random.choice(choices)

    def _boolean(self, _schema: Schema, _name: str) -> bool:
        return self._random.random() < 0.5


def strings_in(value: Any) -> Iterator[str]:
    """Yield the strings of a document, its keys too."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from strings_in(key)
            yield from strings_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings_in(each)
    elif isinstance(value, str):
        yield value
