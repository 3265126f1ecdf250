"""The report of the engine benchmark: ratios, targets and the profile."""

import pytest

from benchmarks.engine import ratios
from benchmarks.load import Mode
from benchmarks.table import Row
from benchmarks.worker_profile import area, summarize

_OURS = "Tailrace, bench.nothing"


def _figure(engine: str, survives: str, median: float, *, unit: str, default: bool) -> Row:
    mode = Mode(engine, "some (default)" if default else "other", survives, default)
    figure = "chain of 40, start to end" if unit == "ms" else "256 executions"
    return {"figure": figure, **mode.columns, "unit": unit, "median": median, "best": median}


def test_only_figures_of_the_same_durability_are_called_alike() -> None:
    """A ratio of a synced peer and our unsynced default is marked as unlike."""
    rows = ratios(
        [
            _figure(_OURS, "process crash", 5000, unit="steps/s", default=True),
            _figure(_OURS, "power failure", 4000, unit="steps/s", default=False),
            _figure("Restate", "power failure", 1000, unit="steps/s", default=True),
        ]
    )
    assert [(row["durability"], row["ratio"]) for row in rows] == [
        ("each engine's default: unlike", 5.0),
        ("both survive a power failure", 4.0),
    ]


def test_our_own_engines_are_not_compared_with_each_other() -> None:
    """Steps inside a commit are not comparable with separately stored steps."""
    rows = [
        _figure(_OURS, "process crash", 5000, unit="steps/s", default=True),
        _figure("Tailrace, transform", "process crash", 9000, unit="steps/s", default=True),
    ]
    assert ratios(rows) == []


@pytest.mark.parametrize(
    ("unit", "ours", "reached"),
    [("steps/s", 500, "yes"), ("steps/s", 499, "no"), ("ms", 25, "yes"), ("ms", 26, "no")],
)
def test_targets_are_five_times_the_throughput_and_a_quarter_of_the_latency(
    unit: str, ours: float, reached: str
) -> None:
    """The report states for each figure whether the target is reached."""
    rows = ratios(
        [
            _figure(_OURS, "power failure", ours, unit=unit, default=True),
            _figure("Restate", "power failure", 100, unit=unit, default=True),
        ]
    )
    assert [row["reached"] for row in rows] == [reached]


def test_samples_are_summed_by_thread_area_and_function() -> None:
    """Own time belongs to the innermost function, regardless of its caller."""
    stacks = [
        "thread (1): engine;run (/x/asyncio/tasks.py:1);publish (/x/nats/aio/client.py:7) 3",
        "thread (1): engine;run (/x/asyncio/tasks.py:1) 1",
        "thread (2): Thread-3;publish (/x/nats/aio/client.py:7) 4",
    ]
    report = summarize(stacks, cost=80.0)
    assert report["threads"][0] == {"thread": "engine", "%": 50.0, "us/step": 40.0}
    assert report["areas"][0] == {"area": "nats-py", "%": 87.5, "us/step": 70.0}
    assert report["functions"][0]["own time of"] == "publish aio/client.py:7"


def test_an_unknown_file_belongs_to_other() -> None:
    """A file without an area is counted as ``other``."""
    assert area("f (/x/elsewhere.py:1)") == "other"
