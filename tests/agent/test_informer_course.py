"""The informer against a server with a history: after any course of events it holds what the server
holds.
"""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kpm.kube.api import ApiError, Object
from kpm.kube.informer import Informer
from tests.agent.scripted_source import BROKEN, GONE, Script, bookmark, event, obj, page

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["say", "say", "miss", "bookmark", "break", "end", "compact", "compact"]),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
    max_size=30,
)


class Server(Script):
    """A server with a history that does these steps: what, of which object, to which value (0:
    delete).
    """

    def __init__(self, steps: list[tuple[str, int, int]]) -> None:
        super().__init__([], [])
        self.steps, self.version, self.compacted = steps, 10, 0
        self.objects: dict[int, Object] = {}
        self.history: list[tuple[int, Object]] = []
        for which in range(3):
            self.change(which, 1)

    def change(self, which: int, value: int) -> None:
        """Make, change or delete one of six objects in two namespaces."""
        if not value and which not in self.objects:
            return
        self.version += 1
        found = obj(f"o{which % 3}", self.version, f"ns{which % 2}", value=value)
        kind = "DELETED" if not value else "MODIFIED" if which in self.objects else "ADDED"
        self.objects = (
            {**self.objects, which: found}
            if value
            else {key: item for key, item in self.objects.items() if key != which}
        )
        self.history.append((self.version, event(kind, found)))

    def list(self, token: str | None) -> Object:
        """Pages of two of what there was when the first one was asked for."""
        if token is None:
            self.snapshot, self.listed = list(self.objects.values()), self.version
        at = int(token or 0)
        return page(
            *self.snapshot[at : at + 2],
            version=self.listed,
            token=str(at + 2) if at + 2 < len(self.snapshot) else "",
        )

    def watch(self, version: str) -> Iterator[Object]:
        """All since a version, then the next steps."""
        at = int(version)
        if at < self.compacted:
            if self.version % 2:
                raise ApiError(410, "Gone", "too old")
            yield GONE
        while True:
            yield from [happened for number, happened in self.history if number > at]
            at = self.version
            if not self.steps:
                self.done()
                return
            what, which, value = self.steps.pop(0)
            if what == "bookmark":
                yield bookmark(at)
                continue
            self.change(which, value)
            if what == "compact":
                self.compacted = self.version
            if what == "end":
                return
            if what != "say":
                raise BROKEN


@given(STEPS)
def test_after_any_course_of_events_it_holds_what_the_server_holds(
    steps: list[tuple[str, int, int]],
) -> None:
    """Changes seen and missed, broken and ended watches, compaction; and whoever was told last has
    seen the end.
    """
    server, seen = Server(list(steps)), []
    informer = Informer("things", server, lambda: seen.append(informer.values()), stop=server.waits)
    informer.run()
    assert sorted(informer.values(), key=str) == sorted(server.objects.values(), key=str)
    assert seen[-1] == informer.values()
    assert all(before != after for before, after in pairwise(seen))
