"""Node functions: their declaration, the registry, and the small shipped nodes."""

import asyncio
import functools
import sys
import textwrap
from collections.abc import Mapping
from importlib.metadata import EntryPoint, EntryPoints
from types import ModuleType
from typing import Any, Literal

import pytest

from tailrace_shared.errors import SettingsError, StartupError
from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter
from tailrace_shared.workflow.validation import validate
from tailrace_worker.nodes import registry
from tailrace_worker.nodes.await_ import await_
from tailrace_worker.nodes.delay import delay
from tailrace_worker.nodes.fail import fail
from tailrace_worker.nodes.http import HttpLimits
from tailrace_worker.nodes.log import log
from tailrace_worker.nodes.node import NodeFailedError, Wait, _describe, declared_node, node
from tailrace_worker.nodes.registry import NodeRegistry, load_registry
from tailrace_worker.nodes.simulate import simulate
from tailrace_worker.nodes.workflow import workflow

# Maps are the scheduler's work, and `emit` is added by the engine, which can send.
LOADED = SHIPPED.keys() - {"map", "emit"}


class Context:
    """A ``ctx`` that records progress and log lines."""

    def __init__(self, node_id="n", attempt=1):
        self.tenant = "t"
        self.execution_id = "e"
        self.node_id = node_id
        self.attempt = attempt
        self.idempotency_key = f"e:{node_id}"
        self.cancelled = False
        self.progressed = []
        self.lines = []

    def progress(self, percent, message="", **fields):  # noqa: ARG002
        """Record a report."""
        self.progressed.append(percent)

    def log(self, message, level="info", **fields):  # noqa: ARG002
        """Record a line."""
        self.lines.append((level, message))


def declaration_of(function):
    """Return the declaration that ``@node`` has attached to a function."""
    found = declared_node(function)
    assert found is not None
    return found


class TestDeclaration:
    """The parameters of a function are the keys of ``with``."""

    def test_parameters_become_keys(self):
        """Parameters without a default are required, and ``ctx`` is not a key."""

        @node("po.parse")
        def parse(file, ctx, pages=None, *, strict=True):
            """Parse a purchase order.

            At length.
            """

        found = declaration_of(parse)
        assert found.type.name == "po.parse"
        assert found.type.parameters == {
            "file": Parameter(required=True),
            "pages": Parameter(),
            "strict": Parameter(),
        }
        assert found.type.summary == "Parse a purchase order."
        assert (found.takes_context, found.is_async, found.type.open) == (True, False, False)
        assert found.call is parse

    def test_annotations_declare_what_literals_may_be(self):
        """The API can refuse ``pages: "three"`` for ``pages: int``; other types take anything."""

        @node("po.typed")
        def typed(  # noqa: PLR0917 - one for each kind
            pages: int,
            rate: float,
            name: str,
            strict: bool,
            options: dict[str, Any],
            more: Mapping[str, int],
            mode: Literal["fast", "slow"],
            size: Literal[1, "a"],
            maybe: int | None,
            implicit: int = None,  # type: ignore[assignment]  # noqa: RUF013
        ):
            """Do it."""

        described = declaration_of(typed).type.parameters
        assert {name: spec.kind for name, spec in described.items()} == {
            "pages": "integer",
            "rate": "number",
            "name": "text",
            "strict": "boolean",
            "options": "object",
            "more": "object",
            "mode": "text",
            "size": "any",
            "maybe": "any",
            "implicit": "any",
        }
        assert described["mode"].choices == ["fast", "slow"]

        def unresolved(pages, copies):
            """Do it."""

        unresolved.__annotations__ |= {"pages": "NotDefined", "copies": "int"}
        declared = declaration_of(node("po.unresolved")(unresolved))
        # One annotation that cannot be resolved leaves the checks of the others.
        assert declared.type.parameters == {
            "pages": Parameter(required=True),
            "copies": Parameter("integer", required=True),
        }

    @pytest.mark.parametrize(
        ("literal", "detail"),
        [
            ({"pages": "three"}, "must be an integer"),
            ({"pages": True}, "must be an integer"),
            ({"rate": "x"}, "must be a number"),
            ({"mode": "fats"}, "must be one of fast, slow, did you mean 'fast'?"),
            ({"pages": 3, "rate": 1, "mode": "slow"}, ""),
            ({"pages": 2**60, "rate": 1e300}, ""),
            ({"pages": "${input.pages}", "mode": "${input.mode}"}, ""),
        ],
    )
    def test_a_literal_of_the_wrong_type_is_refused_when_stored(self, literal, detail):
        """An expression is not known before the run."""

        @node("po.typed")
        def typed(pages: int = 1, rate: float = 1.0, mode: Literal["fast", "slow"] = "fast"):
            """Do it."""

        document = {"id": "w", "nodes": {"n": {"type": "po.typed", "with": literal}}}
        problems = validate(document, {"po.typed": declaration_of(typed).type}).problems
        assert [problem.detail for problem in problems] == ([detail] if detail else [])

    def test_a_coroutine_function_is_async_and_keywords_make_it_open(self):
        """``**fields`` accepts any other key."""

        @node("x")
        async def collect(**fields):
            return fields

        found = declaration_of(collect)
        assert (found.is_async, found.type.open, found.takes_context) == (True, True, False)

    @pytest.mark.parametrize("name", ["", "a b", "a..b", ".a", "a.", "a*", "x" * 65, "é"])
    def test_a_name_is_ids_joined_by_dots(self, name):
        """The name becomes a key in a bucket."""
        with pytest.raises(ValueError, match="is not a node type"):
            node(name)

    def test_parameters_that_cannot_be_keys_are_refused(self):
        """A node is called by keyword."""

        def positional(a, /):
            pass

        def many(*a):
            pass

        def context(ctx, /):
            pass

        for function in (positional, many, context):
            with pytest.raises(ValueError, match="cannot be a key"):
                node("x")(function)

    def test_a_coroutine_function_cannot_be_instant(self):
        """An instant node runs inside the commit, which does not await."""

        async def slow():
            pass

        with pytest.raises(ValueError, match="cannot be instant"):
            node("x", instant=True)(slow)

    def test_the_shipped_functions_match_their_types(self):
        """Types validate definitions, and attempts call the functions."""
        for name, function in {f.type.name: f for f in load_registry("")}.items():
            assert function.type is SHIPPED[name]
            described = _describe("other", function.call, instant=False).type
            assert set(described.parameters) == set(SHIPPED[name].parameters)
        assert {f.type.name for f in load_registry("")} == LOADED


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes an importable module and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(source, name="user_nodes"):
        (tmp_path / f"{name}.py").write_text(
            "from tailrace_worker.nodes import node\n" + textwrap.dedent(source)
        )
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


class TestActors:
    """Node types that run as Dramatiq actors on any worker."""

    def test_the_published_type_of_an_actor_is_marked(self):
        """Workers without its code must know it, too."""

        @node("ocr.page", actor=True, time_limit=60_000, priority=5)
        def page(url):
            """Read a page."""
            return url

        found = declaration_of(page)
        assert found.is_actor
        assert found.type.actor
        assert found.actor_options == {"time_limit": 60_000, "priority": 5}
        assert not declaration_of(fail).is_actor

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"instant": True, "actor": True}, "an actor cannot be instant"),
            ({"actor": True, "time_limt": 5}, "unknown option time_limt: actors take"),
            ({"time_limit": 5}, "unknown option time_limit: it is not an actor"),
        ],
    )
    def test_conflicting_options_are_refused(self, options, complaint):
        """The error is raised at import, and so when the worker starts."""
        with pytest.raises(ValueError, match=complaint):
            node("x", **options)

    def test_an_actor_is_known_by_its_function_or_by_its_published_type(self):
        """The worker's own function takes precedence."""
        here = declaration_of(node("here", actor=True)(lambda: None))
        plain = declaration_of(node("plain")(lambda: None))
        types = NodeRegistry([here, plain])
        published = {
            "there": NodeType("there", actor=True),
            "plain": NodeType("plain", actor=True),
            "log": NodeType("log"),
        }
        asked = ["here", "there", "plain", "log", "nowhere"]
        assert [types.is_actor(name, published) for name in asked] == [
            True,
            True,
            False,
            False,
            None,
        ]
        assert types.actors == [here]


class TestRegistry:
    """User modules and entry points."""

    def test_modules_are_loaded_by_name(self, module):
        """Their names are separated by commas."""
        first = module("@node('a')\ndef a(): return 1\n", "nodes_a")
        second = module("@node('b')\ndef b(): return 2\n", "nodes_b")
        loaded = load_registry(f"{first}, {second},")
        for name, value in (("a", 1), ("b", 2)):
            function = loaded.get(name)
            assert function is not None
            assert function.call() == value
        assert loaded.get("c") is None

    def test_a_function_imported_by_two_modules_is_one(self, module):
        """Only two different functions with one name conflict."""
        module("@node('a')\ndef a(): pass\n", "nodes_a")
        module("from nodes_a import a\n@node('b')\ndef b(): pass\n", "nodes_b")
        assert load_registry("nodes_a,nodes_b").get("a") is not None

    def test_two_functions_with_one_name_prevent_the_start(self, module):
        """The error names both."""
        module("@node('a')\ndef one(): pass\n", "nodes_a")
        module("@node('a')\ndef two(): pass\n", "nodes_b")
        with pytest.raises(StartupError, match=r"'a' is declared twice: by nodes_a\.one and by"):
            load_registry("nodes_a,nodes_b")

    def test_a_shipped_type_cannot_be_replaced(self, module):
        """A definition must mean the same on every worker."""
        module("@node('http')\ndef mine(url): pass\n")
        with pytest.raises(StartupError, match="'http' is declared twice"):
            load_registry("user_nodes")

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("import nothing_like_it\n", "ModuleNotFoundError: No module named 'nothing_like_it'"),
            ("1 / 0\n", "ZeroDivisionError: division by zero"),
            ("def (:\n", "SyntaxError"),
            ("raise SystemExit(3)\n", "SystemExit: 3"),
            ("@node('a b')\ndef a(): pass\n", "is not a node type"),
            ("x = 1\n", "declares no nodes: mark functions with @node"),
        ],
    )
    def test_an_unusable_module_prevents_the_start(self, module, source, words):
        """The error gives the reason in one line."""
        module(source)
        with pytest.raises(StartupError) as caught:
            load_registry("user_nodes")
        assert "user_nodes" in str(caught.value)
        assert words in str(caught.value)

    def test_a_missing_module_prevents_the_start(self):
        """The error names the module."""
        with pytest.raises(
            StartupError,
            match=r"cannot load nodes from no_such_module.*put its folder on PYTHONPATH",
        ):
            load_registry("no_such_module")

    def test_other_objects_of_a_module_are_ignored(self, module):
        """Proxies like those of Flask and Django raise on attribute access outside a request."""
        module(
            """
            class Proxy:
                def __getattr__(self, name):
                    raise RuntimeError("outside of a request")

            request = Proxy()

            @node("a")
            def a(): pass
            """
        )
        assert load_registry("user_nodes").get("a") is not None

    def test_a_decorator_above_node_is_refused(self, module):
        """functools.wraps copies the mark, but the worker would call the original function."""
        module(
            """
            import functools

            def twice(function):
                @functools.wraps(function)
                def wrapper(): return 2 * function()
                return wrapper

            @twice
            @node("a")
            def a(): return 1
            """
        )
        with pytest.raises(StartupError, match="write @node above"):
            load_registry("user_nodes")

    def test_entry_points_are_a_module_or_a_function(self, module, monkeypatch):
        """A distribution may declare either."""
        module("@node('a')\ndef a(): pass\n@node('b')\ndef b(): pass\n", "nodes_a")
        module("@node('c')\ndef c(): pass\n@node('d')\ndef d(): pass\n", "nodes_b")
        points = EntryPoints(
            [
                EntryPoint("all", "nodes_a", registry.ENTRY_POINTS),
                EntryPoint("one", "nodes_b:c", registry.ENTRY_POINTS),
            ]
        )
        monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
        found = {function.type.name for function in load_registry("")}
        assert found == {*LOADED, "a", "b", "c"}

    def test_any_other_entry_point_prevents_the_start(self, module, monkeypatch):
        """For example, a number."""
        module("x = 5\n", "nodes_a")
        points = EntryPoints([EntryPoint("bad", "nodes_a:x", registry.ENTRY_POINTS)])
        monkeypatch.setattr(registry, "entry_points", lambda **_: points)
        with pytest.raises(StartupError, match="entry point bad declares no nodes"):
            load_registry("")

    def test_networks_for_http_are_checked(self):
        """The error names the variable."""
        with pytest.raises(SettingsError, match=r"TAILRACE_HTTP_ALLOW='10\.0\.0\.1/8'"):
            load_registry("", HttpLimits("10.0.0.1/8"))

    def test_importing_a_module_of_nodes_has_no_side_effect(self):
        """``@node`` only marks the function."""
        before = dict(vars(registry))

        @node("unread.loads.me")
        def unloaded():
            pass

        assert dict(vars(registry)) == before
        assert load_registry("").get("unread.loads.me") is None

    def test_marks_are_found_on_functions_only(self):
        """A module is not a node, nor is a wrapper without the mark."""
        assert declared_node(ModuleType("x")) is None
        assert declared_node(functools.partial(print)) is None


class TestDelay:
    """``delay`` returns the time to wait for."""

    def test_a_duration_starts_now(self):
        """The engine adds the duration to the clock that all workers share."""
        assert delay(duration="90s") == Wait(seconds=90)

    @pytest.mark.parametrize(
        "until", ["2024-01-15T10:30:00Z", "2024-01-15T11:30:00+01:00", "2024-01-15T10:30:00.000Z"]
    )
    def test_a_time_has_a_zone(self, until):
        """The format is RFC 3339."""
        assert delay(until=until) == Wait(1705314600)

    @pytest.mark.parametrize(
        "given",
        [
            {"duration": "soon"},
            {"duration": 5},
            {"duration": "9999999d"},
            {"until": "noon"},
            {"until": "2024-01-15T10:30:00"},
            {"until": 1705314600},
            {},
        ],
    )
    def test_an_invalid_time_is_not_retried(self, given):
        """It may come from an expression, and another attempt would yield the same."""
        with pytest.raises(NodeFailedError) as caught:
            delay(**given)
        assert not caught.value.retryable


def test_the_reason_of_a_wait_is_truncated():
    """An expression may put an output of megabytes into it, more than an event can carry."""
    assert await_(reason="r" * 2_000_000).reason == "r" * 1024


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (True, "true"), (None, ""), (["a"], '["a"]'), ({"a": 1.5}, '{"a":1.5}')],
)
def test_a_reason_and_a_message_are_texts_or_json(value, text):
    """Not Python's notation; a reason that is null is none."""
    assert await_(reason=value).reason == text
    with pytest.raises(NodeFailedError) as caught:
        fail(value)
    assert str(caught.value) == (text or "null")


@pytest.mark.parametrize("value", [None, 5, True, ["a"]])
def test_the_id_of_a_workflow_is_a_text(value):
    """The text of None would be a valid id."""
    with pytest.raises(NodeFailedError, match="must be a text"):
        workflow(value)


def test_log_writes_a_line():
    """A text is written unchanged, any other value as JSON."""
    context = Context()
    assert log(context, "hello", "warning") == {}
    assert log(context, {"a": [1, None]}) == {}
    assert context.lines == [("warning", "hello"), ("info", '{"a":[1,null]}')]


def test_fail_fails_with_its_message():
    """The attempt may be retried."""
    with pytest.raises(NodeFailedError, match=r"^out of paper$") as caught:
        fail("out of paper")
    assert caught.value.retryable


class TestSimulate:
    """``simulate`` sleeps instead of working."""

    @staticmethod
    async def fails(context, seed, rate=0.5):
        """Return whether an attempt fails."""
        try:
            await simulate(context, fail_rate=rate, seed=seed)
        except NodeFailedError:
            return True
        return False

    async def test_a_seed_makes_it_repeatable(self):
        """The outcome depends on node and attempt, so a retry may succeed."""
        places = [Context(node_id, attempt) for node_id in "abcdefgh" for attempt in (1, 2, 3, 4)]
        first = [await self.fails(place, 7) for place in places]
        assert first == [await self.fails(place, 7) for place in places]
        assert first != [await self.fails(place, 8) for place in places]
        assert 0 < sum(first) < len(first)

    async def test_a_rate_of_0_never_fails_and_1_always(self):
        """The ends of the range are exact."""
        assert not any([await self.fails(Context(), seed, 0.0) for seed in range(50)])
        assert all([await self.fails(Context(), seed, 1.0) for seed in range(50)])

    async def test_progress_goes_up(self):
        """It starts at 0 and stays below 100 until the node is done."""
        context = Context()
        assert await simulate(context, duration="40ms", progress=True) == {}
        assert context.progressed == sorted(set(context.progressed))
        assert (context.progressed[0], len(context.progressed)) == (0, 20)

    async def test_it_can_be_interrupted(self):
        """A cancelled execution does not wait for the whole duration."""
        task = asyncio.create_task(simulate(Context(), duration="1h"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_an_invalid_duration_is_not_retried(self):
        """It may come from an expression."""
        with pytest.raises(NodeFailedError) as caught:
            await simulate(Context(), duration="long")
        assert not caught.value.retryable
