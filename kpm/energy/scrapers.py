"""Who reads the metrics, so that what has ended is told to each of them once."""

from attrs import define, field

#: Readers that are remembered, and seconds after which one that has not come again is none.
_MOST, _GONE_S = 16, 300.0


@define
class Scrapers:
    """Addresses that have read the metrics, each with when it came last."""

    _came: dict[str, float] = field(factory=dict)

    def came(self, address: str, now: float) -> None:
        """A reader has come; of too many, the one that came first is forgotten."""
        self._came.pop(address, None)
        self._came[address] = now
        if len(self._came) > _MOST:
            del self._came[next(iter(self._came))]

    def active(self, now: float) -> tuple[str, ...]:
        """Those that still come."""
        self._came = {address: at for address, at in self._came.items() if now - at < _GONE_S}
        return tuple(self._came)
