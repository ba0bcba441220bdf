"""What a change saved: two sets of runs compared, with a confidence interval, in joules, money and
grams of CO2e.

Source of the interval: Welch's t test for means of unequal variance; quantiles by the incomplete
beta function.
"""

from collections.abc import Callable, Sequence
from math import exp, lgamma, log, sqrt

from attrs import frozen

_J_PER_KWH = 3_600_000
#: A continued fraction is cut off here, however little it converges.
_MOST_TERMS = 299


@frozen
class Mean:
    """Repeated measurements of one thing: how many, their mean, and the standard error of the mean
    (0 of one).
    """

    count: int
    mean: float
    error: float


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of measurements. Errors: ValueError for none.

    >>> mean_of([1.0, 3.0])
    Mean(count=2, mean=2.0, error=1.0)
    """
    if not values:
        raise ValueError("no measurements")
    count = len(values)
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1) if count > 1 else 0.0
    return Mean(count, mean, sqrt(variance / count))


@frozen
class Saving:
    """What the second of two saved.

    Units: those of the measurements; share: of the first, None where that is 0.

    low, high: the confidence interval, None where one of the two was measured once only.
    confidence: per cent.
    """

    before: Mean
    after: Mean
    saved: float
    share: float | None
    low: float | None
    high: float | None
    confidence: int

    @property
    def certain(self) -> bool:
        """Whether the interval excludes that nothing changed."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def compare(before: Sequence[float], after: Sequence[float], confidence: int = 95) -> Saving:
    """The difference of the means, with its interval. Errors: ValueError for no measurements."""
    first, second = mean_of(before), mean_of(after)
    saved = first.mean - second.mean
    low = high = None
    if first.count > 1 and second.count > 1:
        reach = _reach(first, second, confidence)
        low, high = saved - reach, saved + reach
    return Saving(
        first,
        second,
        saved,
        share=saved / first.mean if first.mean else None,
        low=low,
        high=high,
        confidence=confidence,
    )


def _reach(first: Mean, second: Mean, confidence: int) -> float:
    variance = first.error**2 + second.error**2
    if not variance:
        return 0.0
    freedom = variance**2 / (
        first.error**4 / (first.count - 1) + second.error**4 / (second.count - 1)
    )
    return t_quantile(0.5 + confidence / 200, freedom) * sqrt(variance)


def t_quantile(probability: float, freedom: float) -> float:
    """The t below which such a share of Student's distribution lies, for shares from 0.5 on.

    >>> round(t_quantile(0.975, 4), 3), round(t_quantile(0.975, 30), 3)
    (2.776, 2.042)
    """

    def below(t: float) -> float:
        return 1 - _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2

    return _root(below, probability)


def _root(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 0.0, 1.0
    while rising(high) < wanted and high < 1e9:
        low, high = high, high * 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1 - x))
    if x > (a + 1) / (a + b + 2):
        return 1 - front * _fraction(b, a, 1 - x) / b
    return front * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    found = d
    m, change = 0, 0.0
    while m < _MOST_TERMS and abs(change - 1) >= 1e-12:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for step in (even, odd):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            change = c * d
            found *= change
    return found


@frozen
class Rate:
    """What an hour's kilowatt costs, from a second on: of money or of grams of CO2e."""

    since: float
    per_kwh: float


def rate_at(rates: Sequence[Rate], second: float) -> float:
    """The rate in force; before the first one, the first. Errors: ValueError for none."""
    if not rates:
        raise ValueError("no rates")
    begun = [rate for rate in rates if rate.since <= second]
    return (
        max(begun, key=lambda rate: rate.since).per_kwh
        if begun
        else min(rates, key=lambda rate: rate.since).per_kwh
    )


def cost(joules: float, per_kwh: float) -> float:
    """Joules at a rate.

    >>> cost(3_600_000, 0.25)
    0.25
    """
    return joules / _J_PER_KWH * per_kwh
