"""The editor form of definitions: a list of nodes, and needs as edges."""

from hypothesis import given
from hypothesis import strategies as st

from harness.models.invalid_definitions import DO, TRANSFORM, TYPES, problems_of, resolve
from tailrace_shared.workflow.validation import validate


class TestEditorForm:
    """The editor form: a list of nodes, and needs as edges."""

    def test_nodes_and_edges_mean_the_same_as_needs(self):
        """Both forms give the same definition."""
        edited = {
            "id": "w",
            "nodes": [
                {"id": "a", "type": "transform", "data": {"label": "A", "value": 1}},
                {
                    "id": "b",
                    "type": "transform",
                    "position": {"x": 1, "y": 2},
                    "data": {"value": "${nodes.a.output}", "when": "true", "timeout": "5s"},
                },
                {"id": "c", "type": "log", "data": {"with": {"message": "x"}, "join": "any"}},
            ],
            "edges": [
                {"id": "e1", "source": "a", "target": "b"},
                {"source": "a", "target": "c", "sourceHandle": "x"},
                {"source": "a", "target": "c", "sourceHandle": "y"},
                {"source": "b", "target": "c"},
            ],
            "viewport": {"x": 0, "y": 0, "zoom": 1},
        }
        written = {
            "id": "w",
            "nodes": {
                "a": {**TRANSFORM, "name": "A"},
                "b": {
                    "type": "transform",
                    "with": {"value": "${nodes.a.output}"},
                    "when": "true",
                    "timeout": "5s",
                    "needs": ["a"],
                },
                "c": {
                    "type": "log",
                    "with": {"message": "x"},
                    "join": "any",
                    "needs": ["a", "b"],
                },
            },
        }
        assert validate(edited) == validate(written)
        assert validate(edited).problems == []

    @given(st.data())
    def test_any_graph_means_the_same_in_both_forms(self, data):
        """For any edges, including cycles."""
        names = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True))
        pairs = st.tuples(st.sampled_from(names), st.sampled_from(names))
        edges = data.draw(st.lists(pairs, max_size=12, unique=True))
        needs = {name: [source for source, target in edges if target == name] for name in names}
        written = validate(
            {"id": "w", "nodes": {n: {**TRANSFORM, "needs": needs[n]} for n in names}}
        )
        edited = validate(
            {
                "id": "w",
                "nodes": [{"id": n, "type": "transform", "data": {"value": 1}} for n in names],
                "edges": [{"source": source, "target": target} for source, target in edges],
            }
        )
        assert edited.definition == written.definition
        assert len(edited.problems) == len(written.problems)

    def test_await_map_and_workflow_nodes_can_be_edited(self):
        """Fields of a node stay fields; all other keys go into `with`."""
        edited = {
            "id": "w",
            "nodes": [
                {
                    "id": "ask",
                    "type": "await",
                    "data": {"reason": "x", "timeout": "1h", "on_timeout": "continue"},
                },
                {
                    "id": "each",
                    "type": "map",
                    "data": {"for_each": "input.x", "do": DO, "on_error": "collect"},
                },
                {"id": "child", "type": "workflow", "data": {"id": "other", "on_crash": "fail"}},
                {"id": "tell", "type": "emit", "data": {"procedure": "a.b", "data": {"c": 1}}},
            ],
        }
        written = {
            "id": "w",
            "nodes": {
                "ask": {
                    "type": "await",
                    "with": {"reason": "x"},
                    "timeout": "1h",
                    "on_timeout": "continue",
                },
                "each": {
                    "type": "map",
                    "with": {"for_each": "input.x", "do": DO, "on_error": "collect"},
                },
                "child": {"type": "workflow", "with": {"id": "other"}, "on_crash": "fail"},
                "tell": {"type": "emit", "with": {"procedure": "a.b", "data": {"c": 1}}},
            },
        }
        assert validate(edited, TYPES) == validate(written, TYPES)
        assert validate(edited, TYPES).problems == []

    def test_a_problem_of_a_maps_work_has_a_position_in_the_editors_document(self):
        """At any depth."""
        data = {"for_each": "input.x", "do": {"type": "nope"}}
        document = {"id": "w", "nodes": [{"id": "each", "type": "map", "data": data}]}
        assert [place for place, _ in problems_of(document)] == ["/nodes/0/data/do/type"]

    def test_problems_have_positions_in_the_editors_document(self):
        """An editor can only show positions in its own document."""
        document = {
            "id": "w",
            "nodes": [
                {"id": "ok", "type": "transform", "data": {"value": 1}},
                {"id": "a", "type": "nope", "data": {"label": 5, "timeout": "x", "b/c": "${1 +}"}},
                {"id": "b", "type": "transform", "data": {"with": {"value": "${"}}, "need": 1},
                {"id": "c", "type": "transform", "with": {"value": "${1 +}"}},
                {"id": "ok", "type": "transform"},
                {"type": "transform"},
                {"id": "d", "data": 7},
            ],
            "edges": [
                {"source": "ok", "target": "gone"},
                {"source": "ok"},
                "x",
                {"source": "b", "target": "c"},
                {"source": "c", "target": "b"},
            ],
        }
        found = problems_of(document)
        assert sorted(place for place, _ in found) == [
            "/edges",
            "/edges/0/target",
            "/edges/1",
            "/edges/2",
            "/nodes/1/data/b~1c",
            "/nodes/1/data/label",
            "/nodes/1/data/timeout",
            "/nodes/1/type",
            "/nodes/2/data/with/value",
            "/nodes/2/need",
            "/nodes/3/with/value",
            "/nodes/4/id",
            "/nodes/5",
            "/nodes/6",
            "/nodes/6/data",
        ]
        for place, _ in found:
            resolve(document, place)

    def test_edges_must_be_a_list(self):
        """The nodes are checked nevertheless."""
        document = {"id": "w", "nodes": [{"id": "n", "type": "nope"}], "edges": 5}
        assert [place for place, _ in problems_of(document)] == ["/edges", "/nodes/0/type"]

    def test_an_edge_without_a_source_is_invalid(self):
        """A missing source is not the node "None"."""
        nodes = [{"id": n, "type": "transform", "data": {"value": 1}} for n in ("None", "b")]
        document = {"id": "w", "nodes": nodes, "edges": [{"target": "b"}]}
        assert [place for place, _ in problems_of(document)] == ["/edges/0"]
