"""Watts of this machine, live: a node's meters, pools and pods, as values for a table or JSON, and
as a picture in text.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from kpm.energy.collector import EnergyMeter
from kpm.energy.ledger import Account
from kpm_planner.energy.meters import telling

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 40


@frozen
class Row:
    """One line.

    Units: W, J. busy and idle power over the last interval; joules: all since the beginning.
    """

    kind: str
    name: str
    busy: float
    idle: float
    joules: float
    profile: str = ""


@frozen
class Shown:
    """One look. watts: of packages and memory; meters: zone, place, source, watts (None where it
    could not be read), joules.
    """

    watts: float | None
    rows: tuple[Row, ...]
    meters: tuple[tuple[str, str, str, float | None, float], ...]
    problems: tuple[tuple[str, str], ...]


def look(meter: EnergyMeter) -> Shown:
    """What a meter knows now."""
    ledger = meter.ledger
    known = ledger.known(meter.sampler.meters)
    zones = telling(item.zone for item, _ in known)
    own = [(item, account) for item, account in known if item.zone in zones]
    powers = [account.power_uw for _, account in own if account.power_uw is not None]
    rows = [
        _row("pool", "/".join(filter(None, key)) or "outside of pods", account)
        for key, account in ledger.pools.items()
    ]
    rows += [
        _row("pod", _pod_name(account), account)
        for account in ledger.pods.values()
        if account.ended is None
    ]
    rows += [
        _row("container", account.identity.id[:12], account)
        for account in ledger.containers.values()
        if not account.identity.pod_uid and account.ended is None
    ]
    if own:
        accounts = [account for _, account in own]
        rows.append(
            Row(
                "node",
                "system",
                _sum(item.system_uw for item in accounts),
                0.0,
                _sum(item.system_uj for item in accounts),
            )
        )
        rows.append(
            Row(
                "node",
                "idle of nobody",
                0.0,
                _sum(item.unattributed_uw for item in accounts),
                _sum(item.unattributed_uj for item in accounts),
            )
        )
    meters = tuple(
        (
            item.zone,
            item.place,
            item.source,
            None if account.power_uw is None else account.power_uw / 1e6,
            account.uj / 1e6,
        )
        for item, account in known
    )
    return Shown(
        sum(powers) / 1e6 if powers else None, tuple(rows), meters, tuple(sorted(meter.problems))
    )


def _pod_name(account: Account) -> str:
    who = account.identity
    return f"{who.namespace}/{who.pod}" if who.pod else f"pod {who.pod_uid}"


def _row(kind: str, name: str, account: Account) -> Row:
    zones = telling(account.zones)
    power = [account.power_uw.get(zone, [0, 0]) for zone in zones]
    total = sum(sum(account.zones[zone]) for zone in zones)
    return Row(
        kind,
        name,
        sum(busy for busy, _ in power) / 1e6,
        idle=sum(idle for _, idle in power) / 1e6,
        joules=total / 1e6,
        profile=account.identity.profile,
    )


def _sum(millionths: Iterable[int]) -> float:
    return sum(millionths) / 1e6


def document(shown: Shown) -> dict[str, Any]:
    """The same for machines."""
    return {
        "version": 1,
        "watts": shown.watts,
        "meters": [
            {"zone": zone, "place": place, "source": source, "watts": watts, "joules": joules}
            for zone, place, source, watts, joules in shown.meters
        ],
        "rows": [
            {
                "kind": row.kind,
                "name": row.name,
                "profile": row.profile,
                "busyWatts": row.busy,
                "idleWatts": row.idle,
                "joules": row.joules,
            }
            for row in shown.rows
        ],
        "problems": [{"code": code, "message": text} for code, text in shown.problems],
    }


def sparkline(values: Iterable[float]) -> str:
    """Values as a row of bars, from 0 to the largest.

    >>> sparkline([0, 1, 2, 4])
    '▁▂▄█'
    """
    known = list(values)
    top = max(known, default=0.0)
    return "".join(
        (
            _BARS[min(int(value / top * (len(_BARS) - 1) + 0.25), len(_BARS) - 1)]
            if top > 0
            else _BARS[0]
        )
        for value in known
    )


@define
class History:
    """The last powers of each row."""

    _watts: dict[tuple[str, str], list[float]] = field(factory=dict)

    def add(self, shown: Shown) -> Mapping[tuple[str, str], list[float]]:
        """Take in a look; rows that are gone are forgotten."""
        self._watts = {
            (row.kind, row.name): [*self._watts.get((row.kind, row.name), []), row.busy + row.idle][
                -_HISTORY:
            ]
            for row in shown.rows
        }
        return self._watts
