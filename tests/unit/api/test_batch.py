"""A batch is what its commits are, in one piece, and knows where it leaves a client."""

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.sse.chunk import bodies
from tailrace_shared.position import StreamPosition

_FRAMES = st.lists(st.sampled_from([b"", b"a", b"bb" * 20]), max_size=5)


@given(st.lists(_FRAMES, min_size=1, max_size=6), st.integers(0, 6), st.booleans())
def test_a_batch_is_its_commits_from_an_index_on(
    commits: list[list[bytes]], index: int, is_last: bool
) -> None:
    """Events that a dialect does not show move only the seen position."""
    index = min(index, len(commits[0]))
    encoded = [
        EncodedCommit.of(
            number * 3,
            {place: frame for place, frame in enumerate(frames) if frame},
            len(frames) - 1,
            is_last=is_last and number == len(commits),
        )
        for number, frames in enumerate(commits, 1)
    ]
    batch = Batch.of("e", encoded, index)
    rest = [commits[0][index:], *commits[1:]]
    shown = [frame for frames in rest for frame in frames if frame]
    assert b"".join(bodies(batch.wire)) == b"".join(shown)
    assert batch.events == len(shown)
    assert batch.next_sequence == len(commits) * 3 + 1
    assert batch.is_last == is_last
    places = [
        (StreamPosition("e", number * 3, place), frame)
        for number, frames in enumerate(commits, 1)
        for place, frame in enumerate(frames)
        if number > 1 or place >= index
    ]
    shown_places = [place for place, frame in places if frame]
    assert batch.last_shown == (shown_places[-1] if shown_places else None)
    if places:
        assert batch.last_seen == places[-1][0]
