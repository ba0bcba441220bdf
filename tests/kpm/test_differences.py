"""Where two plans differ is said place by place, and only there."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kpm.formats.differences import differences

_JSON = st.recursive(
    st.none() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(_JSON, _JSON)
def test_documents_differ_where_a_line_says_so_and_only_there(before: Any, now: Any) -> None:
    lines = list(differences({"it": before}, {"it": now}))
    assert bool(lines) == (before != now)
    assert all(line.startswith("it") for line in lines)
    assert len({line.partition(":")[0] for line in lines}) == len(lines), "a place is said once"


def test_a_place_is_named_as_people_write_it() -> None:
    before = {"nodes": [{"cpus": [{"pool": "shared"}], "old": 1}]}
    now = {"nodes": [{"cpus": [{"pool": "exclusive"}, {"pool": "shared"}]}]}
    assert list(differences(before, now)) == [
        "nodes[0].cpus[0].pool: was 'shared', is 'exclusive'",
        "nodes[0].cpus[1]: was not there, is a mapping",
        "nodes[0].old: was 1, is not there",
    ]
