"""Parsers of untrusted input raise documented errors only, in bounded time."""

import time
from itertools import islice

import pytest
from fuzz.mutation import inputs
from fuzz.targets import TARGETS, problem_of, seeds_of

# In CI each target tries the same inputs each time; `python -m fuzz` tries others, for longer.
_INPUTS = 400
_SECONDS = 1.5


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_raises_documented_errors_in_bounded_time(name: str):
    """The seeds, and changes of them as far as the time allows."""
    seeds = seeds_of(name)
    began = time.thread_time()
    for number, data in enumerate(islice(inputs(seeds, name), len(seeds) + _INPUTS)):
        if number >= len(seeds) and time.thread_time() - began > _SECONDS:
            break
        assert problem_of(TARGETS[name], data) is None, data
