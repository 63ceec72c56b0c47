"""Whatever is imported, in whatever pieces and however often, the histories are those of the events."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from client.importing import import_source
from tests.unit.client_homes import CATALOGUE, make_home

# Ids that a CSV file has to quote, and that look alike.
NAMES = st.text(alphabet='ab,"\n 名é', min_size=1, max_size=4).map(lambda text: f"x{text}y")
EVENTS = st.lists(
    st.tuples(NAMES, st.integers(0, 11), st.integers(-5, 5)), min_size=1, max_size=30, unique=True
)  # fmt: skip


def csv(events: list[tuple[str, int, int]]) -> str:
    rows = "".join('"{}",course-{},{}\n'.format(user.replace('"', '""'), item, when) for user, item, when in events)
    return f"user,item,timestamp\n{rows}"


@settings(max_examples=25, deadline=None)
@given(events=EVENTS, cut=st.integers(0, 30), overlap=st.integers(0, 5), again=st.booleans())
def test_histories_are_those_of_the_events(
    events: list[tuple[str, int, int]], cut: int, overlap: int, again: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = make_home(Path(name))
        pieces = [events[: cut + overlap], events[cut:], *([events] if again else [])]
        for number, piece in enumerate(pieces):
            if piece:
                path = Path(name) / f"{number}.csv"
                path.write_bytes(csv(piece).encode())
                import_source(home.store, CATALOGUE, str(path))
        rows, users = home.store.interactions(CATALOGUE)
        assert set(users) == {user for user, _, _ in events}
        assert home.store.counts().num_events == len(events)
        for place, user in enumerate(users):
            last: dict[int, int] = {}
            for _, item, when in (event for event in events if event[0] == user):
                last[item] = max(when, last.get(item, when))
            history = rows.history(place).tolist()
            assert sorted(history) == sorted(last)
            assert [last[item] for item in history] == sorted(last.values())
