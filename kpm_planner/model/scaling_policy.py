"""What users ask for of dynamic frequency: the policy of a profile, as it was written and as values
with units.
"""

from attrs import field, frozen

from kpm_planner.model.quantities import duration_ms
from kpm_planner.model.schema import described as _text

DEFAULT_SAMPLE, DEFAULT_COOLDOWN = "10ms", "30ms"


@frozen
class CpuScalingPolicy:
    """Dynamic frequency for polling workloads. Durations as Go writes them: "10ms"."""

    workload_type: str | None = field(
        default=None, metadata=_text("What kind of load is scaled.", enum=["polling-dpdk"])
    )
    sample_period: str | None = field(
        default=None,
        metadata=_text(
            "Time between two looks at the load, 10ms to 1s. Default 10ms.", maxLength=16
        ),
    )
    cooldown_period: str | None = field(
        default=None,
        metadata=_text(
            "Time without change after a change, at least samplePeriod. Default 30ms.", maxLength=16
        ),
    )
    target_usage: int | None = field(
        default=None,
        metadata=_text(
            "Busy share of the polling loop to aim at, per cent. Default 80.",
            minimum=1,
            maximum=100,
        ),
    )
    allowed_usage_difference: int | None = field(
        default=None,
        metadata=_text(
            "Distance from targetUsage that changes nothing. Default 5.", minimum=0, maximum=50
        ),
    )
    allowed_frequency_difference: int | None = field(
        default=None,
        metadata=_text("Smallest change of frequency, MHz. Default 25.", minimum=0, maximum=99_999),
    )
    scale_percentage: int | None = field(
        default=None,
        metadata=_text(
            "How strongly the frequency follows the load, per cent. Default 50.",
            minimum=10,
            maximum=200,
        ),
    )
    fallback_freq_percent: int | None = field(
        default=None,
        metadata=_text(
            "Where between min and max to go without telemetry, per cent. Default 0.",
            minimum=0,
            maximum=100,
        ),
    )

    @property
    def sample_us(self) -> int | None:
        """Time between two looks, µs; None where the text is no duration."""
        return _us(self.sample_period or DEFAULT_SAMPLE)

    @property
    def cooldown_us(self) -> int | None:
        """Time without change after a change, µs; at least one sample period where it is left out;
        None where the text is no duration.
        """
        if self.cooldown_period is None:
            return max(self.sample_us or 0, _us(DEFAULT_COOLDOWN) or 0)
        return _us(self.cooldown_period)

    @property
    def band_khz(self) -> int | None:
        """Smallest change of frequency, kHz; None where it is left out."""
        asked = self.allowed_frequency_difference
        return None if asked is None else asked * 1000


def _us(text: str) -> int | None:
    milliseconds = duration_ms(text)
    return None if milliseconds is None else milliseconds * 1000
