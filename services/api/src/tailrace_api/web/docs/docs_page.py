"""Render the API description as an HTML page. Pure.

The page is one file without scripts or external resources, so it works under the strictest
Content-Security-Policy. ARCHITECTURE.md says why no vendored renderer replaces it.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from tailrace_api.web.docs.docs_example import curl_of

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --ink: #2563eb; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
nav a { margin-right: 1rem; } a { color: var(--ink); }
code, pre { font: 0.9em ui-monospace, monospace; }
pre { background: var(--soft); padding: 0.75rem; overflow-x: auto; border-radius: 6px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: 0.5rem 0; }
details > *:not(summary) { margin-left: 1rem; margin-right: 1rem; }
summary { padding: 0.5rem 0.75rem; cursor: pointer; }
summary b { display: inline-block; min-width: 4.5rem; }
summary span { opacity: 0.75; margin-left: 0.75rem; }
table { border-collapse: collapse; width: calc(100% - 2rem); }
td, th { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; }
tr + tr td { border-top: 1px solid var(--soft); }
h3 { font-size: 1rem; margin-bottom: 0.25rem; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

_Json = Mapping[str, Any]


def index_page(version: str) -> str:
    """Return the page at the root of the API, when the dashboard was not built."""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Tailrace</title>'
        f"<style>{_STYLE}</style><h1>Tailrace {escape(version)}</h1>"
        "<p>This is the API. Its dashboard was not built. With Node.js 20 or later, in a clone of "
        "the repository:</p><pre>npm ci --prefix clients/web\n"
        "npm run dashboard --prefix clients/web</pre><p>Then restart the API.</p>"
        '<nav><a href="/docs">Description</a>'
        '<a href="/openapi.json">OpenAPI</a></nav></html>'
    )


def docs_page(description: _Json) -> str:
    """Return the page."""
    return _Page(description).text()


class _Page:
    def __init__(self, description: _Json) -> None:
        self._description = description
        self._components: _Json = description["components"]

    def text(self) -> str:
        info = self._description["info"]
        groups = [tag["name"] for tag in self._description["tags"]]
        links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a>' for name in groups)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>"
            f"<h1>{escape(info['title'])}</h1><p>API {escape(info['version'])} · "
            '<a href="openapi.json">openapi.json</a></p>'
            f"<p>{_prose(info['description'])}</p>"
            f'<nav>{links}<a href="#types">Types</a></nav>'
            f"{''.join(map(self._group, groups))}{self._types()}</body></html>"
        )

    def _group(self, name: str) -> str:
        operations = "".join(
            self._operation(method, path, operation)
            for path, methods in self._description["paths"].items()
            for method, operation in methods.items()
            if operation["tags"] == [name]
        )
        return f'<h2 id="{_anchor(name)}">{escape(name)}</h2>{operations}'

    def _operation(self, method: str, path: str, operation: _Json) -> str:
        return (
            f'<details id="{escape(operation["operationId"])}"><summary><b>{method.upper()}</b>'
            f"<code>{escape(path)}</code><span>{_prose(operation['summary'])}</span></summary>"
            f"<p>{_prose(operation.get('description', 'Public.'))}</p>"
            f"{self._parameters(operation)}{self._body(operation)}{self._answers(operation)}"
            f"<pre>{escape(curl_of(method, path, operation, self._components))}</pre></details>"
        )

    def _parameters(self, operation: _Json) -> str:
        rows = [
            (
                f"<code>{escape(each['name'])}</code>",
                escape(each["in"]),
                self._type(each["schema"]),
                _prose(each["description"]),
            )
            for each in map(self._resolved, operation["parameters"])
        ]
        return f"<h3>Parameters</h3>{_table(rows)}" if rows else ""

    def _body(self, operation: _Json) -> str:
        if "requestBody" not in operation:
            return ""
        (content,) = operation["requestBody"]["content"].values()
        optional = "" if operation["requestBody"]["required"] else ", optional"
        return f"<h3>Body</h3><p>{self._type(content['schema'])}{optional}</p>"

    def _answers(self, operation: _Json) -> str:
        rows = [
            (
                f"<b>{status}</b>",
                ", ".join(
                    f"{self._type(content['schema'])} <code>{escape(media_type)}</code>"
                    for media_type, content in answer.get("content", {}).items()
                ),
                _prose(answer["description"]),
            )
            for status, reference in operation["responses"].items()
            for answer in [self._resolved(reference)]
        ]
        return f"<h3>Answers</h3>{_table(rows)}"

    def _types(self) -> str:
        types = "".join(
            f'<details id="type-{escape(name)}" open><summary><b>{escape(name)}</b>'
            f"<span>{_prose(schema.get('description', ''))}</span></summary>"
            f"{self._fields(schema)}</details>"
            for name, schema in sorted(self._components["schemas"].items())
        )
        return f'<h2 id="types">Types</h2>{types}'

    def _fields(self, schema: _Json) -> str:
        required = schema.get("required", [])
        return _table(
            (
                f"<code>{escape(name)}</code>",
                self._type(field),
                "" if name in required else "optional",
                _prose(field.get("description", "")),
            )
            for name, field in schema.get("properties", {}).items()
        )

    def _type(self, schema: _Json) -> str:  # noqa: PLR0911 - a case each
        """Return a short description of a schema, with links to named types."""
        match schema:
            case {"$ref": reference}:
                name = reference.rpartition("/")[2]
                return f'<a href="#type-{escape(name)}">{escape(name)}</a>'
            case {"anyOf": choices}:
                return " or ".join(map(self._type, choices))
            case {"enum": values}:
                return " | ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
            case {"const": value}:
                return f"<code>{escape(json.dumps(value))}</code>"
            case {"type": "array", "items": items}:
                return f"list of {self._type(items)}"
            case {"type": "object", "additionalProperties": dict() as values}:
                return f"object of {self._type(values)}" if values else "object"
            case {"type": kind}:
                return escape(str(kind))
        return "any JSON"

    def _resolved(self, value: _Json) -> _Json:
        if "$ref" not in value:
            return value
        _, _, kind, name = value["$ref"].split("/")
        found: _Json = self._components[kind][name]
        return found


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    cells = (f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{''.join(cells)}</table>"


def _prose(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))


def _anchor(name: str) -> str:
    return escape(name.lower().replace(" ", "-"))
