"""Parsing and formatting of ids, subjects, positions and durations."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailrace_shared.duration import LONGEST, Duration
from tailrace_shared.errors import InvalidIdError
from tailrace_shared.ids import (
    check_id,
    is_valid_id,
    is_valid_node_type,
    new_execution_id,
    new_token,
)
from tailrace_shared.position import StreamPosition
from tailrace_shared.subjects import Subjects, queue_token

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
HOSTILE = ["", "a.b", "*", ">", "a b", "a\n", "a\r\nid: x", "é", "a/b", "\0", "x" * 65, "٣", "$"]


class TestIds:
    """Ids that may become subject tokens."""

    @given(IDS)
    def test_letters_digits_dashes_and_underscores_are_ids(self, text):
        """An id has 1 to 64 characters."""
        assert check_id(text, "node") == text
        assert is_valid_node_type(text)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_anything_else_is_refused(self, text):
        """The error names the kind of the id."""
        assert not is_valid_id(text)
        with pytest.raises(InvalidIdError, match="tenant"):
            check_id(text, "tenant")

    @pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "x." * 32 + "x"])
    def test_a_node_type_is_ids_joined_by_dots(self, text):
        """At most 64 characters."""
        assert is_valid_node_type("po.parse")
        assert is_valid_node_type("x." * 31 + "xy")
        assert not is_valid_node_type(text)
        assert not is_valid_node_type("po.parse\n")

    def test_execution_ids_sort_by_creation_time(self):
        """Run lists are sorted by their keys."""
        made = []
        for _ in range(5):
            made.append(new_execution_id())
            then = time.time_ns() // 1_000_000
            while time.time_ns() // 1_000_000 == then:
                pass
        assert made == sorted(made)
        assert len(set(made)) == 5
        assert all(is_valid_id(execution) for execution in made)

    def test_tokens_do_not_repeat(self):
        """Tokens identify commits and writers."""
        assert len({new_token() for _ in range(1000)}) == 1000


class TestSubjects:
    """Building and parsing of subjects."""

    @given(IDS, IDS, IDS)
    def test_a_log_subject_names_its_execution(self, prefix, tenant, execution):
        """The republished subject does as well."""
        subjects = Subjects(prefix)
        assert subjects.execution_of(subjects.log(tenant, execution)) == (tenant, execution)
        assert subjects.execution_of(subjects.live(tenant, execution)) == (tenant, execution)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_an_invalid_id_builds_no_subject(self, text):
        """A wildcard or a dot would address other tenants' subjects."""
        subjects = Subjects()
        attempts = [
            lambda: Subjects(text),
            lambda: subjects.log(text, "e"),
            lambda: subjects.log("t", text),
            lambda: subjects.live(text, "e"),
            lambda: subjects.live("t", text),
            lambda: subjects.tenant_live(text),
            lambda: subjects.job_at("q", text),
            lambda: subjects.job_cron("q", text),
            lambda: subjects.trigger(text, "p"),
            lambda: subjects.output(text, "e", "o", 0),
            lambda: subjects.output("t", text, "o", 0),
            lambda: subjects.output("t", "e", text, 0),
            lambda: subjects.in_line("l", text, "e"),
            lambda: subjects.in_line("l", "t", text),
        ]
        for attempt in attempts:
            with pytest.raises(InvalidIdError):
                attempt()

    @pytest.mark.parametrize(
        "subject",
        [
            *("", "tr", "tr.log", "tr.log.t", "tr.log.t.e.x", "tr.log..e", "tr.log.t.", "log.t.e"),
            *("xx.log.t.e", "tr.jobs.t.e", "tr.tr.log.t.e", "trlog.t.e"),
        ],
    )
    def test_other_subjects_name_no_execution(self, subject):
        """This includes subjects that contain the subject of an execution."""
        with pytest.raises(InvalidIdError):
            Subjects().execution_of(subject)

    @pytest.mark.parametrize("queue", ["", "a b", "*", "a.>", "é", "a\n", "x" * 129, "a%2Eb"])
    def test_no_queue_reaches_beyond_its_own_token(self, queue):
        """Dramatiq allows dots in queue names, but subject tokens must not have any."""
        assert queue_token("a.b") == "a%2Eb"
        with pytest.raises(InvalidIdError):
            queue_token(queue)

    @pytest.mark.parametrize("name", ["", "a b", "*", "a.>", "a.b", "é", "a\n", "x" * 129])
    def test_no_fifo_queue_reaches_beyond_its_own_token(self, name):
        """The subject of a member does not, either."""
        assert Subjects().in_line("l", "t", "e") == Subjects().line("l").replace("*.*", "t.e")
        for attempt in (Subjects().line, lambda line: Subjects().in_line(line, "t", "e")):
            with pytest.raises(InvalidIdError):
                attempt(name)

    @pytest.mark.parametrize("name", ["", "a b", "*", "a.>", ".a", "a.", "é", "a\n", "x" * 129])
    def test_no_procedure_reaches_beyond_its_own_subject(self, name):
        """The dots of a procedure separate subject tokens."""
        assert Subjects().trigger("t", "order.paid") == "tr.trigger.t.order.paid"
        with pytest.raises(InvalidIdError):
            Subjects().trigger("t", name)

    def test_installations_share_no_names(self):
        """Every stream, bucket and subject begins with the prefix."""
        mine, yours = Subjects("a"), Subjects("b")
        assert mine.stream("EVENTS") != yours.stream("EVENTS")
        assert mine.log("t", "e").split(".")[0] == "a"
        assert Subjects().stream("EVENTS") == "EVENTS"


class TestPositions:
    """Parsing and ordering of SSE ids."""

    @given(
        st.from_regex(r"[0-9a-f]{1,16}", fullmatch=True),
        st.integers(0, 10**19 - 1),
        st.integers(0, 999_999),
    )
    def test_a_position_is_read_as_it_was_written(self, epoch, sequence, index):
        """The text has at most 48 characters; CORS preflights allow 128."""
        position = StreamPosition(epoch, sequence, index)
        assert StreamPosition.parse(str(position)) == position
        assert len(str(position)) <= 48

    @given(st.text())
    @example("1-2")
    @example("1-2-3\n")
    @example("1-2-3 ")
    @example("1--2-3")
    @example("g-2-3")
    @example("F-2-3")
    @example("1-02-3")
    @example("1-2-03")
    @example("1-2-+3")
    @example("1-٢-3")
    @example("1-2-3-4")
    @example("1-" + "9" * 20 + "-0")
    @example("1-2-" + "9" * 7)
    @example("9" * 5000)
    @example("1-2-3\0")
    def test_any_other_text_is_not_a_position(self, text):
        """Clients may send any text; each position has exactly one text form."""
        position = StreamPosition.parse(text)
        assert position is None or str(position) == text

    @given(st.lists(st.tuples(st.integers(0, 10**18), st.integers(0, 10**5)), min_size=2))
    def test_positions_are_ordered_as_numbers(self, places):
        """In text order, 10 would precede 9."""
        positions = [StreamPosition("abc", *place) for place in places]
        assert sorted(positions) == [StreamPosition("abc", *place) for place in sorted(places)]


class TestDurations:
    """Parsing and formatting of durations."""

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("250ms", 0.25),
            ("30s", 30),
            ("1.5s", 1.5),
            ("5m", 300),
            ("24h", 86400),
            ("7d", 604800),
            ("0s", 0),
            (" 1s ", 1),
        ],
    )
    def test_durations_are_a_number_and_a_unit(self, text, seconds):
        """Surrounding spaces are ignored."""
        assert Duration.parse(text) == seconds

    @pytest.mark.parametrize(
        "text",
        ["", "5", "s", "1 s", "-1s", "+1s", "1e3s", "1.s", ".5s", "1S", "1h30m", "nans", "٣s"],
    )
    def test_anything_else_is_refused(self, text):
        """The message shows valid examples."""
        with pytest.raises(ValueError, match="250ms, 30s or 7d"):
            Duration.parse(text)

    @pytest.mark.parametrize("text", ["36501d", "9" * 400 + "ms", "1000000h"])
    def test_a_century_is_the_longest(self, text):
        """Later times overflow calendar dates."""
        assert Duration.parse("36500d") == LONGEST
        with pytest.raises(ValueError, match="longer than 36500d"):
            Duration.parse(text)

    @given(st.integers(1, 36_500), st.sampled_from(["ms", "s", "m", "h", "d"]))
    def test_a_duration_is_read_as_it_is_written(self, number, unit):
        """The unit may change to a larger one."""
        duration = Duration.parse(f"{number}{unit}")
        assert Duration.parse(str(duration)) == pytest.approx(duration)
