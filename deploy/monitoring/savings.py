"""The dashboard of savings: against a reference that is named, with an interval, or not at all.

A figure needs something to compare with. There are two: the same time earlier, and another group of
nodes. Each gives means of repeated measurements (of a window of time; of a node), their difference,
and how far it is certain: Welch's interval at 95 %, with the smaller number of measurements less
one as its degrees of freedom, which makes it wider rather than narrower. Where no reference is
chosen, or there are fewer than five measurements on either side, there is no figure.

Student's quantile q for n degrees of freedom is 1.96 + 2.4 / n + 3.2 / n², within 1 % from n = 4.

Loads differ from one time to another and from node to node. What stands beside the figure tells how
much: CPUs that were busy, and how many nodes there were.
"""

from __future__ import annotations

from attrs import frozen
from panels import Board, Choice, Column, Panel

#: The fewest measurements of either side.
FEWEST = 5
_PERIOD = Choice(
    "reference",
    options=(
        ("none", "@ 0"),
        ("a day earlier", "offset 1d"),
        ("a week earlier", "offset 7d"),
        ("four weeks earlier", "offset 28d"),
    ),
    label="compare with",
    description="As long a time, that much earlier. For one that ends at a fixed moment, add a"
    " value such as @ 1761955200 (seconds since 1970) to this variable.",
)
_CHOICES = (
    _PERIOD,
    Choice(
        "window",
        value="1h",
        label="one measurement is a mean over",
        description="Long enough that one mean says little of the next.",
    ),
    Choice("nodes", label="nodes", description="A regular expression of names."),
    Choice("others", label="nodes to compare with", description="A regular expression of names."),
)
_NO_PERIOD = "No figure: choose what to compare with, and a time of five windows or more"
_NO_GROUP = "No figure: name nodes and nodes to compare with, five of each or more"


@frozen
class Sample:
    """Measurements of one side, as queries by profile: their mean, the variance of the mean, and
    how many they are.
    """

    mean: str
    variance: str
    count: str


def savings(choices: tuple[Choice, ...]) -> Board:
    """The dashboard; choices: profile, price and carbon."""
    return Board(
        "kpm-savings",
        "Power: savings",
        (*_by_period(), *_by_group(), *_as_it_is()),
        (*choices, *_CHOICES),
        since="now-7d",
    )


def _by_period() -> tuple[Panel, ...]:
    power = _windows("kpm:cluster_profile_power:watts")
    then, now = _over_time(power, " $reference"), _over_time(power)
    saved, reach = _saved(then, now)
    known = _enough(then, now)
    busy, nodes = _windows("kpm:cluster_profile_busy:cpus"), "kpm:cluster_profile:nodes"
    nodes = f'{nodes}{{profile=~"$profile"}}'
    columns = (
        ("then", "watt", then.mean),
        ("now", "watt", now.mean),
        ("saved", "watt", saved),
        ("at least", "watt", f"{saved} - {reach}"),
        ("at most", "watt", f"{saved} + {reach}"),
        ("busy CPUs then", "short", _over_time(busy, " $reference").mean),
        ("busy CPUs now", "short", _over_time(busy).mean),
        ("nodes then", "short", f"avg_over_time({nodes}[$__range] $reference)"),
        ("nodes now", "short", f"avg_over_time({nodes}[$__range])"),
    )
    joules = tuple(
        (f"({what}) * $__range_s", name)
        for what, name in (
            (saved, "{{profile}} saved"),
            (f"({saved} - {reach})", "{{profile}} at least"),
            (f"({saved} + {reach})", "{{profile}} at most"),
        )
    )
    about = "Over the time shown, against the time that is chosen above; 95 of 100 such intervals"
    about += " hold the true value, while the loads were alike."
    return (
        *(
            Panel(
                title,
                "stat",
                unit,
                tuple((f"({query}){factor} {known}", name) for query, name in joules),
                8,
                6,
                about,
                nothing=_NO_PERIOD,
            )
            for title, unit, factor in (
                ("Energy saved", "joule", ""),
                ("Money saved", "short", " / 3.6e6 * $price"),
                ("CO2e saved, grams", "short", " / 3.6e6 * $carbon"),
            )
        ),
        _compared("Power then and now", columns, known, about, _NO_PERIOD),
    )


def _by_group() -> tuple[Panel, ...]:
    then, now = _over_nodes("$others"), _over_nodes("$nodes")
    saved, reach = _saved(then, now)
    columns = (
        ("of the others", "watt", then.mean),
        ("of the nodes", "watt", now.mean),
        ("saved a node", "watt", saved),
        ("at least", "watt", f"{saved} - {reach}"),
        ("at most", "watt", f"{saved} + {reach}"),
        ("others", "short", then.count),
        ("nodes", "short", now.count),
    )
    about = "Mean power of a node over the time shown; each node is one measurement."
    known = _enough(then, now)
    return (_compared("Power of nodes beside other nodes", columns, known, about, _NO_GROUP),)


def _as_it_is() -> tuple[Panel, ...]:
    power = 'kpm:cluster_profile_power:watts{profile=~"$profile"}'
    busy = 'kpm:cluster_profile_busy:cpus{profile=~"$profile"} > 0'
    return (
        Panel("Power by profile", "timeseries", "watt", ((power, "{{profile}}"),)),
        Panel(
            "Joules a second of CPU time",
            "timeseries",
            "joule",
            ((f"{power} / ({busy})", "{{profile}}"),),
            description="Idle energy included: it falls with the frequency, and with the load that"
            " one CPU takes.",
        ),
    )


def _compared(
    title: str, columns: tuple[tuple[str, str, str], ...], known: str, about: str, nothing: str
) -> Panel:
    """A table of both sides by profile, where both are known well enough."""
    return Panel(
        title,
        "table",
        "short",
        tuple((f"({query}) {known}", "") for _, _, query in columns),
        24,
        5,
        about,
        columns=(
            Column("profile", "profile"),
            *(
                Column(f"Value #{chr(ord('A') + number)}", name, unit)
                for number, (name, unit, _) in enumerate(columns)
            ),
        ),
        nothing=nothing,
    )


def _windows(metric: str) -> str:
    """One measurement of a recorded metric: its mean over a window."""
    return f'avg_over_time({metric}{{profile=~"$profile"}}[$window])'


def _over_time(one: str, when: str = "") -> Sample:
    """Measurements one after the other over the time shown. when: an offset of all of it."""
    mean, spread, count = (
        f"{name}_over_time({one}[$__range:$window]{when})" for name in ("avg", "stddev", "count")
    )
    return Sample(mean, f"{spread} ^ 2 / ({count} - 1)", count)


def _over_nodes(names: str) -> Sample:
    """Measurements of nodes, each over the time shown."""
    chosen = f'profile=~"$profile",node=~"{names}"'
    one = f"sum by (node, profile) (avg_over_time(kpm:profile_power:watts{{{chosen}}}[$__range]))"
    mean, spread, count = (f"{name} by (profile) ({one})" for name in ("avg", "stddev", "count"))
    return Sample(mean, f"({spread}) ^ 2 / ({count} - 1)", count)


def _saved(then: Sample, now: Sample) -> tuple[str, str]:
    """What the second uses less than the first, and how far that may be off."""
    fewer = f"(({then.count}) < ({now.count}) or ({now.count})) - 1"
    quantile = f"(1.96 + 2.4 / ({fewer}) + 3.2 / ({fewer}) ^ 2)"
    return (
        f"(({then.mean}) - ({now.mean}))",
        f"{quantile} * sqrt({then.variance} + {now.variance})",
    )


def _enough(then: Sample, now: Sample) -> str:
    """What lets a figure through where both sides have measurements enough."""
    return f"and ({then.count}) >= {FEWEST} and ({now.count}) >= {FEWEST}"
