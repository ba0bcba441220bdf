"""What is written and in which order (A2, A3), as examples; the laws are in
property/test_passes.py.
"""

import pytest

from kpm_applier import attributes as table
from kpm_applier.attributes import Group, Kind, ManagedFile
from kpm_applier.diff import diff
from kpm_applier.state.record import GroupState
from kpm_applier.wants import Want
from kpm_planner.model.changes import Observed, Reason, Write
from kpm_planner.model.why import Why
from tests.applier import rig

ROWS = (table.GOVERNOR, table.EPP, table.MIN_FREQ, table.MAX_FREQ)
NAMES = tuple(row.file for row in ROWS)
Four = tuple[str | None, str | None, str | None, str | None]


def group(number: int = 0, rows: tuple[table.Attribute, ...] = ROWS) -> Group:
    files = tuple(ManagedFile(row, rig.cpufreq(number, row.file), row.file) for row in rows)
    return Group(
        f"cpufreq:{number}",
        Kind.CPUFREQ,
        number,
        "intel_pstate",
        files,
        (number,),
        ("800000", "4000000"),
    )


def want(
    values: Four,
    *,
    requested: Four = (None,) * 4,
    settled: Four | None = None,
    release: bool = False,
    number: int = 0,
) -> Want:
    record = GroupState(
        "intel_pstate",
        NAMES,
        ("powersave", "balance_power", "800000", "4000000"),
        requested,
        requested if settled is None else settled,
    )
    return Want(group(number), values, record, release, (Why("because of a test"),))


def seen(values: Four, number: int = 0) -> Observed:
    return Observed(
        {
            rig.cpufreq(number, name): text
            for name, text in zip(NAMES, values, strict=True)
            if text is not None
        }
    )


def brief(writes: tuple[Write, ...] | list[Write]) -> list[tuple[str, str]]:
    return [
        (write.path.rpartition("/")[2].removeprefix("scaling_").removesuffix("_freq"), write.value)
        for write in writes
    ]


A: Four = ("powersave", "power", "1000000", "2000000")
B: Four = ("performance", "performance", "1500000", "3000000")


# --- what is written (A3) ---


def test_a_file_that_was_never_written_and_shows_the_target_is_left_alone() -> None:
    """First touch of a machine that is right: nothing to do."""
    assert diff([want(A)], seen(A)) in ((), [])


def test_a_file_that_was_never_written_and_shows_something_else_is_written() -> None:
    """The write says what it replaces, whose it is, and why."""
    (write,) = diff([want(A)], seen(("powersave", "power", "1000000", "4000000")))
    assert write == Write(
        rig.max_path(), "2000000", "4000000", "cpufreq:0", Reason.PLAN, (Why("because of a test"),)
    )


def test_a_request_that_stays_and_shows_its_target_is_not_repeated() -> None:
    """The idle case."""
    assert not diff([want(A, requested=A)], seen(A))


def test_a_request_that_has_settled_elsewhere_is_not_repeated() -> None:
    """Rounded or limited by another party: reported once, then left (A3, K1, K3)."""
    settled: Four = ("powersave", "power", "1000000", "1800000")
    assert not diff([want(A, requested=A, settled=settled)], seen(settled))


def test_moving_from_settled_to_target_is_no_drift() -> None:
    """The other party let go."""
    settled: Four = ("powersave", "power", "1000000", "1800000")
    assert not diff([want(A, requested=A, settled=settled)], seen(A))


def test_neither_target_nor_settled_is_drift() -> None:
    """Somebody else wrote: repaired, and marked as theirs with their value."""
    settled: Four = ("powersave", "power", "1000000", "1800000")
    (write,) = diff(
        [want(A, requested=A, settled=settled)], seen(("powersave", "power", "1000000", "1900000"))
    )
    assert (write.path, write.value, write.old, write.reason) == (
        rig.max_path(),
        "2000000",
        "1900000",
        Reason.DRIFT,
    )


def test_a_request_that_changes_is_written_whatever_is_shown() -> None:
    """Under a limit both requests may show the same value (K1): what is shown does not say what is
    registered.
    """
    shown: Four = ("powersave", "power", "1000000", "1500000")
    (write,) = diff(
        [want(("powersave", "power", "1000000", "1500000"), requested=A, settled=shown)],
        seen(shown),
    )
    assert (write.path, write.value, write.reason) == (rig.max_path(), "1500000", Reason.PLAN)


def test_an_unreadable_file_is_not_drift() -> None:
    """An offline CPU shows nothing (K17); its request stands."""
    assert not diff([want(A, requested=A)], seen((None, None, None, None)))
    assert brief(diff([want(B, requested=A)], seen((None, None, None, None))))


def test_what_is_not_known_is_not_written() -> None:
    """A baseline that nobody knows is nothing to ask for."""
    values: Four = (None, "power", None, "2000000")
    assert brief(diff([want(values)], seen(("performance", "performance", "1", "1")))) == [
        ("energy_performance_preference", "power"),
        ("max", "2000000"),
    ]


def test_a_release_is_marked_as_such() -> None:
    """Going back to baseline."""
    assert {write.reason for write in diff([want(B, requested=A, release=True)], seen(A))} == {
        Reason.RESTORE
    }


# --- in which order (A2) ---


def test_boost_comes_before_frequencies_wherever_it_stands() -> None:
    """It moves the limits that frequencies are judged by (K24)."""
    file = ManagedFile(table.BOOST, "devices/system/cpu/cpufreq/boost", "boost")
    boost = Group("boost", Kind.BOOST, "boost", "boost", (file,))
    switch = Want(boost, ("0",), GroupState("boost", ("boost",), ("1",), (None,), (None,)), False)
    observed = Observed({**seen(A).values, **seen(A, 1).values, file.path: "1"})
    for wants in (
        [switch, want(B), want(B, number=1)],
        [want(B), switch, want(B, number=1)],
        [want(B), want(B, number=1), switch],
    ):
        writes = diff(wants, observed)
        assert writes[0].path == file.path
        assert [write.group for write in writes[1:]] == ["cpufreq:0"] * 4 + ["cpufreq:1"] * 4


def test_the_governor_comes_first_then_the_epp() -> None:
    """Under governor performance other EPPs are refused with EBUSY (K9, field report 9)."""
    assert [name for name, _ in brief(diff([want(A, requested=B)], seen(B)))][:2] == [
        "governor",
        "energy_performance_preference",
    ]
    assert [name for name, _ in brief(diff([want(B, requested=A)], seen(A)))][:2] == [
        "governor",
        "energy_performance_preference",
    ]


def test_a_new_governor_takes_the_epp_with_it() -> None:
    """The driver may rewrite it (K10), so it is written although it shows what is wanted (field
    report 10).
    """
    values: Four = ("powersave", "performance", "1000000", "2000000")
    shown: Four = ("performance", "performance", "1000000", "2000000")
    assert brief(diff([want(values, requested=shown)], seen(shown))) == [
        ("governor", "powersave"),
        ("energy_performance_preference", "performance"),
    ]
    assert brief(diff([want(values)], seen(shown))) == [
        ("governor", "powersave"),
        ("energy_performance_preference", "performance"),
    ]


def test_a_governor_that_drifted_takes_the_epp_with_it() -> None:
    """Somebody switched to performance: going back may leave or restore the EPP, so it is written,
    too.
    """
    shown: Four = ("performance", "power", "1000000", "2000000")
    assert brief(diff([want(A, requested=A)], seen(shown))) == [
        ("governor", "powersave"),
        ("energy_performance_preference", "power"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "order"),
    [
        ((800_000, 1_000_000), (2_000_000, 3_000_000), ["max", "min"]),
        ((2_000_000, 3_000_000), (800_000, 1_000_000), ["min", "max"]),
        ((1_500_000, 1_500_000), (1_600_000, 1_600_000), ["max", "min"]),
        ((1_600_000, 1_600_000), (1_500_000, 1_500_000), ["min", "max"]),
        ((1_000_000, 3_000_000), (2_000_000, 4_000_000), ["max", "min"]),
        ((2_000_000, 4_000_000), (1_000_000, 3_000_000), ["min", "max"]),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_minimum_never_exceeds_its_maximum(
    old: tuple[int, int], new: tuple[int, int], order: list[str], known: bool
) -> None:
    """Field report 11: a raised maximum before a raised minimum, a lowered minimum before
    a lowered maximum; at first touch and later.
    """
    before: Four = ("powersave", "power", str(old[0]), str(old[1]))
    writes = diff(
        [
            want(
                ("powersave", "power", str(new[0]), str(new[1])),
                requested=before if known else (None,) * 4,
            )
        ],
        seen(before),
    )
    assert [name for name, _ in brief(writes)] == order
    registered = dict(zip(("min", "max"), old, strict=True))
    for name, text in brief(writes):
        registered[name] = int(text)
        assert registered["min"] <= registered["max"]


@pytest.mark.parametrize(
    ("requested", "shown", "new"),
    [
        ((2_000_000, 3_000_000), (1_500_000, 1_500_000), (1_600_000, 1_800_000)),
        ((1_815_000, 1_815_000), (1_765_700, 1_765_700), (1_000_000, 1_765_700)),
        ((2_000_000, 3_000_000), (800_000, 800_000), (900_000, 900_000)),
        ((800_000, 1_000_000), (800_000, 800_000), (900_000, 2_000_000)),
        ((800_000, 1_000_000), (800_000, 800_000), (1_200_000, 2_000_000)),
    ],
)
def test_what_is_registered_decides_the_order_and_not_what_is_shown(
    requested: tuple[int, int], shown: tuple[int, int], new: tuple[int, int]
) -> None:
    """K1, K3: somebody's limit or a table hides the requests; the state knows them."""
    before: Four = ("powersave", "power", str(requested[0]), str(requested[1]))
    settled: Four = ("powersave", "power", str(shown[0]), str(shown[1]))
    writes = diff(
        [want(("powersave", "power", str(new[0]), str(new[1])), requested=before, settled=settled)],
        seen(settled),
    )
    registered = dict(zip(("min", "max"), requested, strict=True))
    for name, text in brief(writes):
        registered[name] = int(text)
        assert registered["min"] <= registered["max"], brief(writes)
    assert (registered["min"], registered["max"]) == new


def test_uncore_limits_are_ordered_by_direction_too() -> None:
    """The same rule for the other range."""
    rows = (table.UNCORE_MIN, table.UNCORE_MAX)
    files = tuple(
        ManagedFile(row, rig.uncore_path("uncore00", row.limit), row.file) for row in rows
    )
    uncore = Group("uncore:uncore00", Kind.UNCORE, "uncore00", "intel_uncore_frequency", files)
    for old, new, order in (
        (("800000", "1000000"), ("1500000", "2000000"), ["max", "min"]),
        (("1500000", "2000000"), ("800000", "1000000"), ["min", "max"]),
    ):
        record = GroupState(
            "intel_uncore_frequency",
            tuple(row.file for row in rows),
            old,
            (None, None),
            (None, None),
        )
        observed = Observed({item.path: text for item, text in zip(files, old, strict=True)})
        assert [
            write.path.rpartition("/")[2][:3]
            for write in diff([Want(uncore, new, record, False)], observed)
        ] == order


def test_neighbours_with_different_values_are_told_apart() -> None:
    """Many groups share a pattern of writes; one that shows something else, or has another history,
    has its own.
    """
    wants = [
        want(A, number=0),
        want(A, number=1),
        want(A, requested=A, number=2),
        want(B, number=3),
        want(A, number=4),
    ]
    observed = Observed(
        {
            **seen(B, 0).values,
            **seen(("powersave", "power", "800000", "2000000"), 1).values,
            **seen(("powersave", "power", "1000000", "3000000"), 2).values,
            **seen(A, 3).values,
            **seen(A, 4).values,
        }
    )
    writes = diff(wants, observed)
    assert [
        (write.group, name, text, write.old, write.reason)
        for write, (name, text) in zip(writes, brief(list(writes)), strict=True)
    ] == [
        ("cpufreq:0", "governor", "powersave", "performance", Reason.PLAN),
        ("cpufreq:0", "energy_performance_preference", "power", "performance", Reason.PLAN),
        ("cpufreq:0", "min", "1000000", "1500000", Reason.PLAN),
        ("cpufreq:0", "max", "2000000", "3000000", Reason.PLAN),
        ("cpufreq:1", "min", "1000000", "800000", Reason.PLAN),
        ("cpufreq:2", "max", "2000000", "3000000", Reason.DRIFT),
        ("cpufreq:3", "governor", "performance", "powersave", Reason.PLAN),
        ("cpufreq:3", "energy_performance_preference", "performance", "power", Reason.PLAN),
        ("cpufreq:3", "max", "3000000", "2000000", Reason.PLAN),
        ("cpufreq:3", "min", "1500000", "1000000", Reason.PLAN),
    ]


def test_diff_changes_nothing_it_is_given() -> None:
    """It is a function of values: twice the same."""
    wants, observed = (want(B, requested=A),), seen(A)
    assert diff(wants, observed) == diff(wants, observed)
