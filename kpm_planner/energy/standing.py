"""What a meter shows with nothing running: assumed at first, then learned from what it showed at
different loads.

Power is close to a straight line over weighted load: standing power, and a slope, the watts that
one busy CPU adds. One load alone cannot tell the two apart, so until loads differed the slope is
assumed, out of the processor's thermal design power (a prior): whoever does the same is then told
the same, whoever starts beside him, and standing power is what is left. What is learned takes over
as far as it is surer than what was assumed.

A slope counts only where CPU time itself differed. Weighted load also differs because frequencies
are read with a jitter, and a line through such points is flat. As far as power does not follow what
the load differs by beside CPU time, the slope is that of power and load along CPU time (an
instrumental variable), and only where the two go together. Old intervals count less and less; a
slope that was learned is kept, a little less sure each time, since a node that has become quiet
teaches nothing new.
"""

from math import inf, sqrt

from attrs import evolve, field, frozen

#: How much an interval still counts at the next one: half after some two hundred.
_KEEP = 0.9965
#: How much less sure a slope becomes with each interval: by half in a day of looks every ten
#: seconds.
_AGEING = 1.00005
#: Fewest intervals; least spread of CPU time, in CPUs and of its mean; how much of the load's
#: spread it must explain.
_LEAST, _SPREAD, _EXPLAINED = 3.0, 0.05, 0.5
#: Share of the load's spread beside CPU time that makes no difference.
_ALIKE = 0.001
#: Of the slope that power has over the load, what it has over the load's rest beside CPU time where
#: that is none, and where it is real.
_UNREAL, _REAL = 0.1, 0.4
#: Without an assumption nothing tells a slope from chance but more intervals.
_LEAST_ALONE = 12.0
#: A power is known no better than to this share of it, as from so many intervals.
_NOISE, _NOISE_COUNT = 0.02, 3.0
#: A slope further from what is assumed, either way, is none of the processor's: so many times, and
#: more the less sure that is.
_PLAUSIBLE, _PER_ERROR = 4.0, 4.0
#: A design power that is further from the kind of processor makes no sense, or from the class,
#: which has mobile and server parts.
_SENSIBLE, _SENSIBLE_IN_CLASS = 6.0, 15.0
#: A slope of today replaces the one that is kept though it is less sure by so much: few loads look
#: surer than they are.
_AS_SURE = 4.0
#: Of the trust that makes a line a learned one.
_LEARNED = 0.9
#: What a busy machine takes of its thermal design power beside what it takes idle.
_TDP_SHARE = 0.8
_PRIOR_ERROR, _CLASS_ERROR = 0.3, 0.5
_CLASS_KHZ = 3_600_000


@frozen
class Prior:
    """What is assumed of a meter. slope_w: W that a busy CPU adds at its highest frequency; error:
    one standard error, as a share of it.
    """

    slope_w: float
    error: float = _PRIOR_ERROR


@frozen
class Line:
    """Power over load. slope_w: W a CPU; standing_w: at no load; trust: how much of it is learned,
    0 to 1; error_w: of standing_w, one standard error.
    """

    slope_w: float
    standing_w: float
    trust: float = 1.0
    error_w: float = 0.0

    @property
    def basis(self) -> str:
        """What it is called where it is told."""
        return "learned" if self.trust >= _LEARNED else "prior"

    def idle_uj(self, uj: int, load: float, elapsed_us: int) -> int:
        """Of an interval's energy what would have been used with nothing running: by the line, and
        by the slope alone as far as that is all there is.
        """
        standing = min(float(uj), self.standing_w * elapsed_us)
        alone = max(uj - self.slope_w * load * elapsed_us, 0.0)
        return min(uj, int(self.trust * standing + (1 - self.trust) * alone))


@frozen
class Standing:
    """Sums over the intervals of one meter.

    Units: W and CPUs. busy: CPU time; load: the same weighted; lowest_w: the least power of any
    interval.

    slope_w, slope_error_w: the surest slope that was found, None where there was none.
    """

    count: float = 0.0
    busy: float = 0.0
    load: float = 0.0
    watts: float = 0.0
    busy_busy: float = 0.0
    busy_load: float = 0.0
    busy_watts: float = 0.0
    load_load: float = 0.0
    load_watts: float = 0.0
    watts_watts: float = 0.0
    lowest_w: float = 0.0
    slope_w: float | None = field(default=None)
    slope_error_w: float = inf

    def line(self, prior: Prior | None = None) -> Line | None:
        """What is to be reckoned with now; None where nothing was assumed and nothing learned."""
        slope, error, trust = self._slope(prior)
        if slope is None:
            return None
        if not self.count:
            return Line(slope, 0.0, 0.0, inf)
        mean = self.load / self.count
        standing = min(max(self.watts / self.count - slope * mean, 0.0), self.lowest_w)
        return Line(slope, standing, trust, error * mean)

    def _slope(self, prior: Prior | None) -> tuple[float | None, float, float]:
        """The slope, its standard error, and how much of it is learned."""
        learned, error = self.slope_w, self.slope_error_w
        if prior is None:
            return (
                (None, inf, 0.0)
                if learned is None or self.count < _LEAST_ALONE
                else (max(learned, 0.0), error, 1.0)
            )
        assumed = prior.slope_w * prior.error
        most = _PLAUSIBLE * (1 + _PER_ERROR * prior.error)
        if (
            learned is None
            or error == inf
            or not prior.slope_w / most <= learned <= prior.slope_w * most
        ):
            return prior.slope_w, assumed, 0.0
        trust = assumed**2 / (error**2 + assumed**2) if assumed else 0.0
        return trust * learned + (1 - trust) * prior.slope_w, sqrt(trust) * error, trust

    def found(self) -> tuple[float, float] | None:
        """The slope that these intervals alone give, and its standard error; None where their loads
        were too few or too much alike to tell.
        """
        count = self.count
        if count < _LEAST:
            return None
        mean, load, watts = self.busy / count, self.load / count, self.watts / count
        zz, xx = self.busy_busy / count - mean * mean, self.load_load / count - load * load
        zx, zw, xw = (
            self.busy_load / count - mean * load,
            self.busy_watts / count - mean * watts,
            self.load_watts / count - load * watts,
        )
        if zz < max(_SPREAD, _SPREAD * mean) ** 2 or xx <= 0:
            return None
        real = _real_spread(zz, zx, xx, zw, xw)
        if real < 1 and (zx <= 0 or zx * zx < _EXPLAINED * zz * xx):
            return None
        slope = xw / xx if real == 1 else real * xw / xx + (1 - real) * zw / zx
        rest = self.watts_watts / count - watts * watts - 2 * slope * xw + slope * slope * xx
        noise = (max(rest, 0.0) * count + _NOISE_COUNT * (_NOISE * watts) ** 2) / (
            count - 2 + _NOISE_COUNT
        )
        return slope, sqrt(noise / (count * (xx if real == 1 else zx * zx / zz)))


def _real_spread(zz: float, zx: float, xx: float, zw: float, xw: float) -> float:
    """How much of what the load differs by beside CPU time is real, 0 to 1: power follows it then,
    and does not where it is how frequencies were read.

    z, x, w: CPU time, load, power; their variances and covariances.
    """
    beside, power = xx - zx * zx / zz, xw - zx * zw / zz
    if beside <= _ALIKE * xx or xw <= 0:
        return 1.0
    return min(max((power / beside * xx / xw - _UNREAL) / (_REAL - _UNREAL), 0.0), 1.0)


def learn(known: Standing, uj: int, load: float, busy: float, elapsed_us: int) -> Standing:
    """Add an interval: its energy, its weighted load and its CPU time, both in CPUs."""
    watts = uj / elapsed_us
    sums = Standing(
        count=known.count * _KEEP + 1,
        busy=known.busy * _KEEP + busy,
        load=known.load * _KEEP + load,
        watts=known.watts * _KEEP + watts,
        busy_busy=known.busy_busy * _KEEP + busy * busy,
        busy_load=known.busy_load * _KEEP + busy * load,
        busy_watts=known.busy_watts * _KEEP + busy * watts,
        load_load=known.load_load * _KEEP + load * load,
        load_watts=known.load_watts * _KEEP + load * watts,
        watts_watts=known.watts_watts * _KEEP + watts * watts,
        lowest_w=(
            watts
            if not known.count
            else min(known.lowest_w + (watts - known.lowest_w) * (1 - _KEEP), watts)
        ),
        slope_w=known.slope_w,
        slope_error_w=known.slope_error_w * _AGEING,
    )
    found = sums.found()
    return (
        evolve(sums, slope_w=found[0], slope_error_w=found[1])
        if found is not None and found[1] <= _AS_SURE * sums.slope_error_w
        else sums
    )


@frozen
class Package:
    """What is known of a package beside its meter. Units: W, kHz; 0 where something is not known.

    tdp_w: thermal design power; full_load: weighted load of all its CPUs; cores; max_khz: the
    highest of its cores; core_w, core_error: of the kind of processor, where that is known.
    """

    tdp_w: float
    full_load: float
    cores: float
    max_khz: int
    core_w: float = 0.0
    core_error: float = 1.0


def prior_of(package: Package) -> Prior:
    """What is assumed of a package: by its design power where that makes sense, by its kind of
    processor, by its class.
    """
    load = max(package.full_load, 1.0)
    known = package.core_w or _TDP_SHARE * class_watts(package.cores, package.max_khz) / load
    by_power = _TDP_SHARE * package.tdp_w / load
    most = _SENSIBLE if package.core_w else _SENSIBLE_IN_CLASS
    if known / most <= by_power <= known * most:
        return Prior(by_power)
    return Prior(known, min(package.core_error, 1.0) if package.core_w else _CLASS_ERROR)


def class_watts(cores: float, max_khz: int) -> float:
    """Design power that is usual for so many cores of such a frequency: 65 W for 4, 95 W for 8, 200
    W for 32, at 3.6 GHz (makers' data sheets).
    """
    speed = min(max(max_khz / _CLASS_KHZ, 0.4), 1.3) if max_khz else 1.0
    return float(30.0 * max(cores, 1.0) ** 0.55 * speed * speed)
