"""A hundred definitions, each with one natural mistake: the first message names it."""

import copy
import re
from typing import Any, Final

from tailrace_shared.workflow.validation import validate

MISSING: Final = object()

BASE: Final[dict[str, Any]] = {
    "id": "order",
    "name": "Orders",
    "input": {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string"},
            "total": {"type": "number"},
            "items": {"type": "array", "items": {"type": "object"}},
        },
    },
    "concurrency": {"limit": 5, "key": "input.file", "on_limit": "queue"},
    "timeout": "2d",
    "defaults": {"retry": {"max_attempts": 3}, "timeout": "1m"},
    "nodes": {
        "get": {
            "type": "http",
            "with": {
                "method": "POST",
                "url": "https://example.com",
                "json": {"file": "${input.file}"},
                "headers": {"accept": "text/plain"},
                "expect_status": 200,
            },
            "retry": {"max_attempts": 3, "initial": "1s", "factor": 2, "max": "1m", "jitter": True},
            "timeout": "30s",
        },
        "parse": {
            "type": "transform",
            "needs": ["get"],
            "with": {"value": "${nodes.get.output.body}"},
        },
        "approve": {
            "type": "await",
            "needs": ["parse"],
            "when": "input.total > 100.0",
            "with": {
                "reason": "approval",
                "triggers": ["orders.approved"],
                "match": "event.file == input.file",
                "lookback": "1h",
                "form": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
            },
            "timeout": "24h",
            "on_timeout": "cancel",
        },
        "each": {
            "type": "map",
            "needs": ["approve"],
            "join": "all",
            "with": {
                "for_each": "input.items",
                "do": {"type": "log", "with": {"message": "${item.sku}"}},
                "max_parallel": 10,
                "on_error": "collect",
            },
        },
        "nap": {"type": "delay", "needs": ["each"], "with": {"duration": "5m"}},
        "child": {
            "type": "workflow",
            "needs": ["nap"],
            "with": {"id": "other", "input": {"ok": "${nodes.approve.output.data.ok}"}},
        },
    },
    "on_failure": {
        "then": "failed",
        "nodes": {"tell": {"type": "log", "with": {"message": "${nodes.get.error}"}}},
    },
    "finally": {"nodes": {"tidy": {"type": "log", "with": {"message": "done"}}}},
    "schedules": [{"id": "nightly", "cron": "0 2 * * *", "time_zone": "Europe/Vienna"}],
    "output": "${nodes.parse.output}",
}

# The place of a mistake, what stands there, and words of the first message.
MISTAKES: Final[list[tuple[str, Any, str]]] = [
    ("id", MISSING, "'id' is missing"),
    ("id", "my order", "an id must be"),
    ("id", 5, "an id must be"),
    ("nodes", MISSING, "'nodes' is missing"),
    ("nodes", {}, "at least one node"),
    ("nodes", "get", "nodes must be"),
    ("node", {}, "'node', did you mean 'nodes'"),
    ("desciption", "x", "did you mean 'description'"),
    ("name", 5, "must be a string"),
    ("timeout", "2 days", "not a duration"),
    ("timeout", 5, "not a duration"),
    ("timeout", "0s", "greater than zero"),
    ("timeouts", "2d", "did you mean 'timeout'"),
    ("default", {}, "did you mean 'defaults'"),
    ("defaults.retries", {}, "'retries', did you mean 'retry'"),
    ("defaults.retry.max", 5, "not a duration"),
    ("defaults.timeout", "1 minute", "not a duration"),
    ("concurrency", 5, "concurrency must be an object"),
    ("concurrency.limit", 0, "from 1 to 1000"),
    ("concurrency.limit", MISSING, "'limit' is missing"),
    ("concurrency.limt", 3, "did you mean 'limit'"),
    ("concurrency.key", "nodes.get.output", "unknown name 'nodes'"),
    ("concurrency.key", "input.fle", "no property 'input.fle', did you mean 'file'"),
    ("concurrency.on_limit", "wait", "must be one of queue"),
    ("input.type", "objekt", "not a JSON Schema"),
    ("input.required", "file", "not a JSON Schema"),
    ("input.properties.file.format", "emial", "did you mean 'email'"),
    ("input.properties.file.pattern", "(", "pattern cannot be used"),
    ("input.properties.file.default", 5, "the default is not valid"),
    ("output", "${nodes.prase.output}", "'prase', did you mean 'parse'"),
    ("output", "${nodes.parse.ouput}", "did you mean 'output'"),
    ("output", "${nodes.parse.output", "without a matching"),
    ("nodes.get.type", "htp", "did you mean 'http'"),
    ("nodes.get.type", MISSING, "'type' is missing"),
    ("nodes.get.typ", "http", "did you mean 'type'"),
    ("nodes.get.with.url", MISSING, "'url' is missing"),
    ("nodes.get.with.uri", "https://x", "did you mean 'url'"),
    ("nodes.get.with.method", "SEND", "must be one of GET"),
    ("nodes.get.with.method", "post", "must be one of GET"),
    ("nodes.get.with.expect_status", "200", "status"),
    ("nodes.get.with.headers", "accept", "must be an object"),
    ("nodes.get.with.headers.accept", ["x"], "header|list|text"),
    ("nodes.get.with.json.file", "${input.fiel}", "'input.fiel', did you mean 'file'"),
    ("nodes.get.with.json.file", "${inptu.file}", "unknown name 'inptu', did you mean 'input'"),
    ("nodes.get.with.json.file", "${input.file +}", "not valid CEL"),
    ("nodes.get.with.json.file", "${nodes.parse.output}", "may not have run before 'get'"),
    ("nodes.get.with", ["x"], "with must be an object"),
    ("nodes.get.with", MISSING, "'with' is missing"),
    ("nodes.get.retry", 3, "retry must be an object"),
    ("nodes.get.retry.max_attempts", 0, "from 1 to 1000"),
    ("nodes.get.retry.max_attempts", "3", "must be an integer"),
    ("nodes.get.retry.attempts", 3, "'attempts', did you mean 'max_attempts'"),
    ("nodes.get.retry.initial", 1, "not a duration"),
    ("nodes.get.retry.factor", "2", "must be a number"),
    ("nodes.get.retry.jitter", "yes", "must be true or false"),
    ("nodes.get.retries", {"max_attempts": 3}, "did you mean 'retry'"),
    ("nodes.get.timeout", 30, "not a duration"),
    ("nodes.get.timeout", "30sec", "not a duration"),
    ("nodes.get.on_timeout", "fail", "allowed on await only"),
    ("nodes.get.on_error", "ignore", "must be one of fail, continue"),
    ("nodes.get.on_crash", "restart", "must be one of retry, fail"),
    ("nodes.get.continue_on_error", True, "unknown field 'continue_on_error'"),
    ("nodes.get.sensitive", "body", "must be a boolean or a list"),
    ("nodes.get.stage", 5, "must be a string"),
    ("nodes.parse.needs", "get", "needs must be a list"),
    ("nodes.parse.needs", ["gte"], "'gte', did you mean 'get'"),
    ("nodes.parse.needs", ["parse"], "cycle: parse"),
    ("nodes.parse.needs", ["child"], "cycle: "),
    ("nodes.parse.needs", ["get", "get"], "listed twice"),
    ("nodes.parse.needs", ["tidy"], "'tidy' is in finally"),
    ("nodes.parse.needs", [], "'get' may not have run before 'parse'"),
    ("nodes.parse.need", ["get"], "did you mean 'needs'"),
    ("nodes.parse.depends_on", ["get"], "unknown field 'depends_on'"),
    ("nodes.parse.with.value", "${nodes.get.output.bdy}", "'bdy', did you mean 'body'"),
    ("nodes.parse.with.value", MISSING, "'value' is missing"),
    ("nodes.parse.with.values", 1, "did you mean 'value'"),
    ("nodes.parse.with.value", "${secrets.token}", "secrets"),
    ("nodes.approve.when", "${input.total > 100.0}", "remove \\$"),
    ("nodes.approve.when", "input.total >> 100", "not valid CEL"),
    ("nodes.approve.when", True, "must be a string"),
    ("nodes.approve.when", "nodes.get.status == 'failed'", "did you mean 'error'"),
    ("nodes.approve.when", "nodes.get.status == 'succes'", "did you mean 'success'"),
    ("nodes.approve.when", "nodes.get.state == 'error'", "no field 'nodes.get.state'"),
    ("nodes.approve.if", "input.total > 100.0", "unknown field 'if'"),
    ("nodes.approve.with.triggers", "orders.approved", "list of procedures"),
    ("nodes.approve.with.trigger", ["x"], "did you mean 'triggers'"),
    ("nodes.approve.with.match", "evnt.file == input.file", "unknown name 'evnt'"),
    ("nodes.approve.with.lookback", "2d", "not be longer than 1d"),
    ("nodes.approve.with.form.type", "objet", "not a JSON Schema"),
    ("nodes.approve.on_timeout", "skip", "must be one of cancel, fail, continue"),
    ("nodes.each.join", "every", "must be one of all"),
    ("nodes.each.retry", {"max_attempts": 2}, "put it into with.do"),
    ("nodes.each.with.for_each", "${input.items}", "remove \\$"),
    ("nodes.each.with.do.type", "lgo", "did you mean 'log'"),
    ("nodes.each.with.do.with.message", "${itm.sku}", "'itm', did you mean 'item'"),
    ("nodes.each.with.max_parallel", 0, "from 1 to 1000"),
    ("nodes.nap.with.until", "tomorrow", "exactly one of duration or until"),
    ("nodes.child.with.input.ok", "${nodes.approve.output.data.okay}", "'okay', did you mean 'ok'"),
    ("on_failure.nodes.get", {"type": "log", "with": {"message": "x"}}, "another node 'get'"),
    ("schedules.0.cron", "0 25 * * *", "hours: 25 is not between"),
]


def broken(place: str, value: Any) -> dict[str, Any]:
    """Return the definition with one mistake."""
    document: Any = copy.deepcopy(BASE)
    target = document
    *path, last = place.split(".")
    for token in path:
        target = target[int(token)] if isinstance(target, list) else target[token]
    if value is MISSING:
        del target[last]
    else:
        target[last] = value
    return dict(document)


def test_the_definition_itself_is_valid():
    """Otherwise every mistake would be one of several."""
    assert validate(BASE).problems == []


def test_the_first_message_names_the_mistake():
    """Mostly together with the correction."""
    assert len(MISTAKES) == 100
    wrong = []
    for place, value, words in MISTAKES:
        problems = validate(broken(place, value)).problems
        first = problems[0].detail if problems else "valid"
        if not re.search(words, first):
            wrong.append(f"{place}: {first}")
    assert not wrong, "\n".join(wrong)
