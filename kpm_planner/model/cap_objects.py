"""What users ask for of power caps: the PowerCap resource, as it was written and as values with
units.

The values are those of an object that was accepted; what cannot be one is refused by
`caps.rules`, and until then its default stands in its place.
"""

from datetime import timedelta

from attrs import field, frozen

from kpm_planner.model.cluster import OPENSHIFT_GROUP, Meta, NodeSelector
from kpm_planner.model.quantities import UW, clock_minutes, duration, microwatts
from kpm_planner.model.schema import described as _text

SUNRISE, SUNSET, _EXPONENT = "04:00", "20:00", 4
MAX_AGE, PERIOD = "10m", "60s"
EVERY_DAY = frozenset(range(7))
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


_CLOCK = "^([01][0-9]|2[0-3]):[0-5][0-9]$"


_WATTS = {"minimum": 1, "maximum": 100_000}


@frozen
class StaticCap:
    """The same cap at all times."""

    watts: int | None = field(default=None, metadata=_text("The cap, W.", **_WATTS))

    @property
    def uw(self) -> int:
        """The cap, µW."""
        return (self.watts or 0) * UW


@frozen
class CapEntry:
    """From when on which cap holds."""

    time: str | None = field(
        default=None,
        metadata=_text(
            "When it begins, HH:MM in the source's time zone.", pattern=_CLOCK, maxLength=5
        ),
    )
    days: tuple[str, ...] = field(
        default=(),
        metadata=_text(
            "Days on which it begins; left out: every day.", maxItems=7, items={"enum": list(DAYS)}
        ),
    )
    watts: int | None = field(
        default=None, metadata=_text("The cap, W; this or percent.", **_WATTS)
    )
    percent: int | None = field(
        default=None,
        metadata=_text(
            "The cap as a share of maxWatts, or where that is left out of the maximum that firmware"
            " names.",
            minimum=1,
            maximum=100,
        ),
    )

    @property
    def minute(self) -> int:
        """When it begins, in minutes of the local day."""
        return clock_minutes(self.time or "") or 0

    @property
    def weekdays(self) -> frozenset[int]:
        """The days on which it begins, 0 for Monday."""
        return frozenset(map(DAYS.index, self.days)) if self.days else EVERY_DAY

    def uw(self, ceiling_uw: int) -> int:
        """The cap, µW. ceiling_uw: what 100 per cent is."""
        return (self.watts or 0) * UW if self.percent is None else ceiling_uw * self.percent // 100


@frozen
class SolarCap:
    """peakWatts x sin(pi x (t - sunrise) / (sunset - sunrise)) ^ exponent between sunrise and
    sunset, nothing outside.
    """

    peak_watts: int | None = field(
        default=None, metadata=_text("The cap half-way between sunrise and sunset, W.", **_WATTS)
    )
    sunrise: str | None = field(
        default=None,
        metadata=_text(
            "HH:MM in the source's time zone. Default 04:00.", pattern=_CLOCK, maxLength=5
        ),
    )
    sunset: str | None = field(
        default=None,
        metadata=_text("HH:MM, after sunrise. Default 20:00.", pattern=_CLOCK, maxLength=5),
    )
    exponent: int | None = field(
        default=None, metadata=_text("How steep the curve is. Default 4.", minimum=1, maximum=16)
    )

    @property
    def peak_uw(self) -> int:
        """The cap half-way, µW."""
        return (self.peak_watts or 0) * UW

    @property
    def daylight(self) -> tuple[int, int]:
        """Sunrise and sunset, in minutes of the local day."""
        return (
            clock_minutes(self.sunrise or SUNRISE) or 0,
            clock_minutes(self.sunset or SUNSET) or 0,
        )

    @property
    def steepness(self) -> int:
        """The exponent of the curve."""
        return _EXPONENT if self.exponent is None else self.exponent


@frozen
class MarketCap:
    """peakWatts x volume of now / largest volume of the day."""

    peak_watts: int | None = field(
        default=None, metadata=_text("The cap at the largest volume, W.", **_WATTS)
    )
    volumes: tuple[int, ...] = field(
        default=(),
        metadata=_text(
            "Traded volume in equal parts of the day from midnight on, such as 24 or 96; of any"
            " unit.",
            maxItems=1440,
        ),
    )

    @property
    def peak_uw(self) -> int:
        """The cap at the largest volume, µW."""
        return (self.peak_watts or 0) * UW


@frozen
class ConfigMapKey:
    """A key of a ConfigMap in the system's namespace."""

    name: str | None = field(default=None, metadata=_text("Name of the ConfigMap.", maxLength=253))
    key: str | None = field(
        default=None, metadata=_text("Key whose text is a number of watts.", maxLength=253)
    )


@frozen
class ExternalCap:
    """A number of watts that somebody else names."""

    config_map: ConfigMapKey | None = field(
        default=None, metadata=_text("A key of a ConfigMap; this or url.")
    )
    url: str | None = field(
        default=None,
        metadata=_text(
            "An http or https address that answers with a number of watts.", maxLength=2048
        ),
    )
    max_age: str | None = field(
        default=None,
        metadata=_text("How old the last answer may be, such as 10m. Default 10m.", maxLength=16),
    )
    fallback_watts: int | None = field(
        default=None,
        metadata=_text(
            "The cap while there is no answer young enough, W; left out: none.", **_WATTS
        ),
    )

    @property
    def age(self) -> timedelta:
        """How old the last answer may be."""
        return duration(self.max_age, MAX_AGE)

    @property
    def fallback_uw(self) -> int | None:
        """The cap without an answer, µW."""
        return microwatts(self.fallback_watts)


@frozen
class CapSource:
    """Where a cap comes from: exactly one of its kinds."""

    static: StaticCap | None = field(default=None, metadata=_text("The same cap at all times."))
    schedule: tuple[CapEntry, ...] = field(
        default=(),
        metadata=_text("Caps by time of day; the entry that began last holds.", maxItems=256),
    )
    solar: SolarCap | None = field(default=None, metadata=_text("A cap that follows the sun."))
    market: MarketCap | None = field(
        default=None, metadata=_text("A cap that follows traded volume.")
    )
    external: ExternalCap | None = field(
        default=None, metadata=_text("A cap that somebody else names.")
    )
    time_zone: str | None = field(
        default=None,
        metadata=_text("Time zone of all times, such as Europe/Paris. Default UTC.", maxLength=64),
    )


@frozen
class PowerCap:
    """How much power the packages of the nodes that it selects may take. Units: W."""

    meta: Meta
    group: str = OPENSHIFT_GROUP
    node_selector: NodeSelector | None = field(
        default=None, metadata=_text("Nodes that are meant; left out: none.")
    )
    source: CapSource = field(
        default=CapSource(),
        metadata=_text(
            "Where the cap comes from: exactly one of static, schedule, solar, market, external."
        ),
    )
    min_watts: int | None = field(
        default=None,
        metadata=_text(
            "The cap is never lower, W, of node or package as `per` says. Default 10 a package.",
            **_WATTS,
        ),
    )
    max_watts: int | None = field(
        default=None,
        metadata=_text("The cap is never higher, W, of node or package as `per` says.", **_WATTS),
    )
    max_step_watts: int | None = field(
        default=None,
        metadata=_text("The cap rises by at most so much a period, W; it falls at once.", **_WATTS),
    )
    divide: str | None = field(
        default=None,
        metadata=_text(
            "How a node's budget is divided over its packages. Default equal.",
            enum=["equal", "demand"],
        ),
    )
    per: str | None = field(
        default=None,
        metadata=_text(
            "Whether the source names the budget of the node (default) or of each package.",
            enum=["node", "package"],
        ),
    )
    constraint: str | None = field(
        default=None,
        metadata=_text(
            "Which limit is set; all: long_term and short_term alike. Default long_term.",
            enum=["long_term", "short_term", "all"],
        ),
    )
    period: str | None = field(
        default=None,
        metadata=_text("How often the cap is looked at anew, 5s to 1h. Default 60s.", maxLength=16),
    )

    @property
    def min_uw(self) -> int | None:
        """The lowest that it may be, µW."""
        return microwatts(self.min_watts)

    @property
    def max_uw(self) -> int | None:
        """The highest that it may be, µW."""
        return microwatts(self.max_watts)

    @property
    def step_uw(self) -> int | None:
        """By how much it may rise in a period, µW."""
        return microwatts(self.max_step_watts)

    @property
    def interval(self) -> timedelta:
        """How often it is looked at anew."""
        return duration(self.period, PERIOD)
