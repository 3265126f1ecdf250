"""Buckets, and the stores built on them."""

import asyncio

import msgspec
import pytest

from tailrace_shared.errors import InvalidIdError, WorkflowNotFoundError
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.topology import DUE, WORKFLOWS
from tailrace_shared.stores import workflow_store
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.workflow.definition import Definition, Node
from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter


@pytest.fixture
def bucket(site):
    """An empty bucket with a history."""
    return Bucket(site.jetstream, site.subjects.stream(WORKFLOWS))


class TestBucket:
    """Keys and values."""

    async def test_a_value_is_read_with_its_revision(self, bucket):
        assert await bucket.get_newest("a.b") is None
        revision = await bucket.put("a.b", b"1")
        assert await bucket.get_newest("a.b") == ("a.b", b"1", revision)
        again = await bucket.put("a.b", b"")
        assert again > revision
        assert await bucket.get_newest("a.b") == ("a.b", b"", again)

    async def test_earlier_revisions_stay_readable(self, bucket):
        """They are readable under their own key only, even after the key is deleted."""
        first = await bucket.put("a", b"1")
        second = await bucket.put("a", b"2")
        other = await bucket.put("b", b"3")
        await bucket.delete("a")
        assert await bucket.get("a") is None
        assert (await bucket.get_revision("a", first))[1:] == (b"1", first)
        assert (await bucket.get_revision("a", second))[1:] == (b"2", second)
        for revision in (other, other + 1, other + 99, 0):
            assert await bucket.get_revision("a", revision) is None

    async def test_a_key_is_created_once(self, bucket):
        """One of many concurrent creates succeeds; a deleted key can be created again."""
        for _ in range(2):
            created = await asyncio.gather(*(bucket.create("a", b"%d" % n) for n in range(8)))
            (revision,) = [made for made in created if made is not None]
            assert (await bucket.get("a")).revision == revision
            assert await bucket.create("a", b"x") is None
            await bucket.delete("a")

    async def test_many_keys_are_read_with_those_that_are_missing(self, bucket):
        """More than one request may name."""
        asked = [f"t.{number}" for number in range(1200)]
        assert await bucket.get_many_newest(asked) == []
        revisions = [await bucket.put(f"t.{number}", b"v") for number in (3, 1100)]
        await bucket.put("u.a", b"v")
        await bucket.put("t.4", b"v")
        await bucket.delete("t.4")
        found = sorted(await bucket.get_many_newest(asked))
        assert [(entry.key, entry.revision) for entry in found] == [
            ("t.1100", revisions[1]),
            ("t.3", revisions[0]),
        ]

    async def test_keys_are_listed_by_pattern(self, bucket):
        """Wildcards are those of subjects."""
        for key in ("t.a", "t.b", "u.a"):
            await bucket.put(key, b"")
        assert sorted(await bucket.keys("t.*")) == ["t.a", "t.b"]
        assert sorted(await bucket.keys(">")) == ["t.a", "t.b", "u.a"]
        assert await bucket.keys("v.*") == []

    async def test_many_values_are_read_at_once(self, bucket):
        """More than fit into one request; keys without a value are left out."""
        await asyncio.gather(*(bucket.put(f"t.{n}", b"%d" % n) for n in range(1100)))
        await bucket.delete("t.7")
        wanted = [f"t.{n}" for n in range(1200)]
        entries = await bucket.get_many(wanted)
        assert {entry.key: entry.value for entry in entries} == {
            f"t.{n}": b"%d" % n for n in range(1100) if n != 7
        }
        assert len(entries) == 1099
        assert await bucket.get_many([]) == []

    async def test_large_values_are_read_in_pages(self, bucket):
        """Ten of half a megabyte each."""
        for n in range(10):
            # All at once take a busy cluster longer than a publish may last.
            await bucket.put(f"t.{n}", bytes([n]) * 500_000)
        entries = await bucket.get_many(["t.*"])
        assert sorted(entry.value[0] for entry in entries) == list(range(10))


class TestBucketWithoutHistory:
    """Compare-and-set, and removal without a trace."""

    @pytest.fixture
    def bucket(self, site):
        """An empty bucket that keeps only the newest value of a key."""
        return Bucket(site.jetstream, site.subjects.stream(DUE))

    async def test_a_replace_with_a_stale_revision_is_refused(self, bucket):
        """One of many concurrent replaces succeeds."""
        revision = 0
        for _ in range(3):
            tries = (bucket.replace("a", b"%d" % n, revision) for n in range(8))
            (revision,) = [made for made in await asyncio.gather(*tries) if made is not None]
            assert (await bucket.get_newest("a")).revision == revision
        assert await bucket.replace("b", b"", revision) is None

    async def test_a_purged_key_leaves_no_trace(self, site, bucket):
        """It can be created again, and replaced from revision 0."""
        assert not await bucket.purge("a")
        await bucket.put("a", b"1")
        assert await bucket.purge("a")
        assert await site.count(f"KV_{site.subjects.stream(DUE)}") == 0
        assert await bucket.get_newest("a") is None
        assert await bucket.replace("a", b"2", 0) is not None
        await bucket.purge("a")
        assert await bucket.create("a", b"3") is not None

    async def test_a_purge_keeps_a_newer_revision(self, bucket):
        first = await bucket.put("a", b"1")
        second = await bucket.put("a", b"2")
        assert not await bucket.purge("a", first)
        assert (await bucket.get_newest("a")).value == b"2"
        assert await bucket.purge("a", second)

    async def test_all_values_are_read_with_their_times(self, bucket):
        """They are in the order of their writes, across pages."""
        for n in range(300):
            await bucket.put(f"t.{n}", b"%d" % n)
        await bucket.put("t.0", b"again")
        await bucket.put("u.0", b"other")
        found = [(entry.value, time) async for entry, time in bucket.scan("t.*")]
        assert [value for value, _ in found] == [*(b"%d" % n for n in range(1, 300)), b"again"]
        assert [time for _, time in found] == sorted(time for _, time in found)


def flow(workflow="w", value=1):
    """Return a definition."""
    return Definition(workflow, {"n": Node("transform", parameters={"value": value})})


class TestWorkflowStore:
    """Definitions by tenant, id and version."""

    @pytest.fixture
    def store(self, site):
        return WorkflowStore(site.jetstream, site.subjects)

    async def test_the_newest_version_is_returned_by_default(self, store):
        """A run keeps the version it started with."""
        first = await store.put("t", flow(value=1))
        second = await store.put("t", flow(value=2))
        assert await store.get("t", "w") == (flow(value=2), second)
        assert await store.get("t", "w", first) == (flow(value=1), first)
        assert await store.get("t", "w", first) is await store.get("t", "w", first)

    async def test_a_missing_workflow_or_version_is_not_found(self, store):
        """A version of another workflow or tenant is not found either."""
        version = await store.put("t", flow())
        for tenant, workflow, asked in (
            ("t", "v", None),
            ("u", "w", None),
            ("t", "v", version),
            ("u", "w", version),
            ("t", "w", version + 1),
        ):
            with pytest.raises(WorkflowNotFoundError, match=workflow):
                await store.get(tenant, workflow, asked)

    async def test_another_process_sees_a_new_version_at_once(self, site, store):
        """Versions are cached, but not which one is the newest."""
        await store.put("t", flow(value=1))
        assert (await store.get("t", "w")).definition == flow(value=1)
        await WorkflowStore(site.jetstream, site.subjects).put("t", flow(value=2))
        assert (await store.get("t", "w")).definition == flow(value=2)

    async def test_a_tenants_workflows_are_listed_by_id(self, store):
        """The newest version of each, without deleted workflows."""
        for workflow in ("b", "a", "c"):
            await store.put("t", flow(workflow, 1))
            await store.put("t", flow(workflow, 2))
        await store.put("u", flow("d"))
        await store.delete("t", "c")
        page = await store.page("t", limit=9)
        newest = [await store.get("t", workflow) for workflow in ("a", "b")]
        assert page.workflows == [
            (stored.definition.id, stored.version, stored.definition.title, []) for stored in newest
        ]
        assert page.cursor is None
        assert await store.page("v", limit=9) == ([], None)

    async def test_pages_of_workflows_continue_at_the_cursor(self, store):
        """Workflows that are deleted or added meanwhile do not shift the pages."""
        ids = [f"w{number:02}" for number in range(50)]
        for workflow in ids:
            await store.put("t", flow(workflow))
        for workflow in ids[10:20]:
            await store.delete("t", workflow)
        seen, cursor = [], None
        while True:
            page = await store.page("t", limit=7, cursor=cursor)
            assert len(page.workflows) <= 7
            seen += [head.workflow_id for head in page.workflows]
            await store.put("t", flow("a"))
            if (cursor := page.cursor) is None:
                break
        assert seen == ids[:10] + ids[20:]

    async def test_a_page_of_large_definitions_is_short(self, store, monkeypatch):
        """It ends at a size limit, and the next page continues."""
        monkeypatch.setattr(workflow_store, "_PAGE_BYTES", 1)
        monkeypatch.setattr(workflow_store, "_STEP", 2)
        for workflow in ("a", "b", "c"):
            await store.put("t", flow(workflow))
        first = await store.page("t", limit=3)
        assert ([head.workflow_id for head in first.workflows], first.cursor) == (["a", "b"], "b")
        rest = await store.page("t", limit=3, cursor=first.cursor)
        assert ([head.workflow_id for head in rest.workflows], rest.cursor) == (["c"], None)

    async def test_a_deleted_workflow_keeps_its_versions(self, store):
        """The runs that started with them need them."""
        version = await store.put("t", flow())
        await store.delete("t", "w")
        with pytest.raises(WorkflowNotFoundError):
            await store.get("t", "w")
        assert (await store.get("t", "w", version)).definition == flow()
        assert await store.put("t", flow()) > version

    @pytest.mark.parametrize("text", ["", "*", ">", "a.b", "a b"])
    async def test_an_id_with_a_wildcard_is_refused(self, store, text):
        """It would read other tenants' workflows."""
        for attempt in (store.get(text, "w"), store.get("t", text), store.page(text, limit=1)):
            with pytest.raises(InvalidIdError):
                await attempt


class TestNodeTypeStore:
    """The node types that workers publish for the API."""

    async def test_published_types_join_the_shipped_ones(self, site):
        """Processes that have read the types before see them too."""
        worker = NodeTypeStore(site.jetstream, site.subjects)
        api = NodeTypeStore(site.jetstream, site.subjects)
        parse = NodeType("po.parse", {"file": Parameter(required=True)}, summary="Parse.")
        assert await worker.all() == SHIPPED
        await worker.publish([parse, *SHIPPED.values()])
        known = await api.all()
        assert known["po.parse"] == parse
        assert {name: known[name] for name in SHIPPED} == SHIPPED

    async def test_a_type_is_written_again_only_when_it_changed(self, site):
        """Workers publish at every start."""
        bucket = Bucket(site.jetstream, site.subjects.stream("node_types"))
        types = [NodeType("a"), NodeType("b", {"x": Parameter()})]
        await NodeTypeStore(site.jetstream, site.subjects).publish(types)
        before = {entry.key: entry.revision for entry in await bucket.get_many(["*"])}
        changed = [NodeType("a"), NodeType("b", {"y": Parameter()})]
        await NodeTypeStore(site.jetstream, site.subjects).publish(changed)
        after = {entry.key: entry.revision for entry in await bucket.get_many(["*"])}
        assert (after["a"], after["b"] > before["b"]) == (before["a"], True)
        entry = await bucket.get("b")
        assert entry is not None
        assert msgspec.json.decode(entry.value, type=NodeType) == changed[1]
