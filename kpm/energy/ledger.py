"""Energy since the beginning, by meter, container, pod and pool: numbers that only grow, until what
they belong to is gone and told.

Units: µJ, µs. The totals outlive a restart of the agent on the same boot; on another boot
everything begins at 0, which is what a counter's reader expects.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import define, field

from kpm.energy.names import Identity
from kpm_planner.energy.attribution import EnergyReport, MeterEnergy
from kpm_planner.energy.meters import APART, Meter, whole_zone
from kpm_planner.model.assignment import Pool
from kpm_planner.model.problems import Code

#: Of those who are gone, no more than these are kept.
MOST_ENDED = 1000


@define(eq=False)
class Account:
    """Of one container, pod or pool: zone → [busy µJ, idle µJ], and power over the last interval,
    zone → [busy µW, idle µW].

    ended: when it was gone; told: who has seen that. texts: how it is named to those who read, made
    once (exposition.py).
    """

    identity: Identity
    zones: dict[str, list[int]] = field(factory=dict)
    power_uw: dict[str, list[int]] = field(factory=dict)
    usage_us: int = 0
    ended: float | None = None
    told: set[str] = field(factory=set)
    texts: dict[str, str] = field(factory=dict)

    def add(self, zone: str, busy_uj: int, idle_uj: int, elapsed_us: int) -> None:
        """Energy of an interval."""
        both = self.zones.get(zone)
        if both is None:
            self.zones[zone] = [busy_uj, idle_uj]
        else:
            both[0] += busy_uj
            both[1] += idle_uj
        power = self.power_uw.setdefault(zone, [0, 0])
        power[0] += busy_uj * 1_000_000 // elapsed_us
        power[1] += idle_uj * 1_000_000 // elapsed_us


@define(eq=False)
class MeterAccount:
    """Of one meter. up: whether it could be read the last time; last: the interval that then ended,
    None where it was not looked at; faults: how often, by code.
    """

    uj: int = 0
    busy_uj: int = 0
    system_uj: int = 0
    unattributed_uj: int = 0
    up: bool = False
    last: MeterEnergy | None = None
    faults: dict[str, int] = field(factory=dict)

    def add(self, part: MeterEnergy, *, read: bool) -> None:
        """An interval."""
        self.uj += part.uj
        self.busy_uj += part.busy_uj
        self.system_uj += part.system_uj
        self.unattributed_uj += part.unattributed_uj
        # an error's value: no value is no sample
        implausible = part.meter.power and part.fault is Code.ENERGY_IMPLAUSIBLE
        self.up, self.last = read and not implausible, part
        if part.fault is not None:
            self.faults[part.fault.value] = self.faults.get(part.fault.value, 0) + 1

    @property
    def power_uw(self) -> int | None:
        """Power over the last interval, µW; None where it could not be read."""
        return self._power(self.last.uj) if self.up and self.last is not None else None

    @property
    def busy_uw(self) -> int:
        """What ran, of it."""
        return 0 if self.last is None else self._power(self.last.busy_uj)

    @property
    def system_uw(self) -> int:
        """What ran outside of containers, of it."""
        return 0 if self.last is None else self._power(self.last.system_uj)

    @property
    def unattributed_uw(self) -> int:
        """Idle power that is nobody's, of it."""
        return 0 if self.last is None else self._power(self.last.unattributed_uj)

    def _power(self, uj: int) -> int:
        assert self.last is not None
        return uj * 1_000_000 // self.last.elapsed_us


@define(eq=False)
class Ledger:
    """All accounts of a node. pods: by UID; pools: by pool and profile; other_uj: of the platform
    beside packages and memory, busy and idle.
    """

    meters: dict[str, MeterAccount] = field(factory=dict)
    containers: dict[str, Account] = field(factory=dict)
    pods: dict[str, Account] = field(factory=dict)
    pools: dict[tuple[str, str], Account] = field(factory=dict)
    other_uj: list[int] = field(factory=lambda: [0, 0])

    def add(
        self,
        report: EnergyReport,
        identities: Mapping[str, Identity],
        readings: Mapping[str, int | None],
        now: float,
    ) -> None:
        """Book an interval. identities: of the containers that are
        there; now: monotonic seconds.
        """
        self._meet(identities, now)
        if report.elapsed_us <= 0:
            return
        for accounts in (self.containers.values(), self.pods.values(), self.pools.values()):
            for account in accounts:
                account.power_uw = {}
        self._book_time(report.usage_us)
        for part in report.meters:
            self.meters.setdefault(part.meter.id, MeterAccount()).add(
                part, read=readings.get(part.meter.id) is not None
            )
            self._book(part.meter.zone, part.busy, part.idle, part.elapsed_us)
        self._book_other(report)
        for name in self.meters.keys() - {part.meter.id for part in report.meters}:
            self.meters[name].up, self.meters[name].last = False, None

    def known(self, meters: Iterable[Meter]) -> list[tuple[Meter, MeterAccount]]:
        """These meters with their accounts, where they have one."""
        return [(meter, self.meters[meter.id]) for meter in meters if meter.id in self.meters]

    def forget_told(self, readers: Iterable[str], now: float, *, keep_s: float) -> None:
        """Let go of those who are gone once every reader has seen that, or so many seconds have
        passed, or they are too many.
        """
        wanted = set(readers)
        for accounts in (self.containers, self.pods):
            ended = [
                (account.ended, name)
                for name, account in accounts.items()
                if account.ended is not None
            ]
            too_many = {name for _, name in sorted(ended)[: max(0, len(ended) - MOST_ENDED)]}
            for since, name in ended:
                told = bool(wanted) and wanted <= accounts[name].told
                if told or now - since >= keep_s or name in too_many:
                    del accounts[name]

    def _meet(self, identities: Mapping[str, Identity], now: float) -> None:
        """Accounts for those who are new; those who are gone are marked."""
        pods: dict[str, Identity] = {}
        for name, identity in identities.items():
            account = self.containers.get(name)
            if account is None:
                self.containers[name] = Account(identity)
            else:
                _rename(account, identity)
            uid = identity.pod_uid
            if uid and (uid not in pods or _says_more(identity, pods[uid])):
                pods[uid] = identity
        for uid, identity in pods.items():
            pod = self.pods.get(uid)
            if pod is None:
                self.pods[uid] = Account(_pod_of(identity))
            else:
                _rename(
                    pod, _pod_of(identity) if identity.pod or not pod.identity.pod else pod.identity
                )
        _mark_ended(self.containers, identities.keys(), now)
        _mark_ended(self.pods, pods, now)

    def _book_time(self, used_us: Mapping[str, int]) -> None:
        for name, used in used_us.items():
            account = self.containers.get(name)
            if account is not None:
                account.usage_us += used
                pod = self.pods.get(account.identity.pod_uid)
                if pod is not None:
                    pod.usage_us += used

    def _book(
        self, zone: str, busy: Mapping[str, int], idle: Mapping[str, int], elapsed_us: int
    ) -> None:
        for name in busy.keys() | idle.keys():
            account = self.containers.get(name)
            if account is None:
                continue
            identity, amounts = account.identity, (busy.get(name, 0), idle.get(name, 0))
            account.add(zone, *amounts, elapsed_us)
            pod = self.pods.get(identity.pod_uid)
            if pod is not None:
                pod.add(zone, *amounts, elapsed_us)
            pool = self.pools.get((identity.pool, identity.profile))
            if pool is None:
                pool = self.pools[identity.pool, identity.profile] = Account(
                    Identity("", pool=identity.pool, profile=identity.profile)
                )
            pool.add(zone, *amounts, elapsed_us)

    def _book_other(self, report: EnergyReport) -> None:
        """What the platform uses beside its packages and memory; left out where one of the meters
        was not read or catches up, as it would not fit.
        """
        platform = whole_zone({part.meter.zone for part in report.meters})
        whole = [part for part in report.meters if part.meter.zone == platform]
        inner = [part for part in report.meters if part.meter.zone in APART]
        if not whole or any(
            part.elapsed_us != report.elapsed_us or not part.uj for part in (*whole, *inner)
        ):
            return
        busy: dict[str, int] = {}
        for sign, parts in ((1, whole), (-1, inner)):
            for part in parts:
                for name, uj in part.busy.items():
                    busy[name] = busy.get(name, 0) + sign * uj
        self._book("other", {name: max(0, uj) for name, uj in busy.items()}, {}, report.elapsed_us)
        ran = sum(part.busy_uj for part in whole) - sum(part.busy_uj for part in inner)
        total = sum(part.uj for part in whole) - sum(part.uj for part in inner)
        self.other_uj[0] += max(0, ran)
        self.other_uj[1] += max(0, total - max(0, ran))

    def as_document(self) -> dict[str, Any]:
        """All of it as a mapping."""
        return {
            "meters": {
                name: [item.uj, item.busy_uj, item.system_uj, item.unattributed_uj, item.faults]
                for name, item in self.meters.items()
            },
            "other": self.other_uj,
            "containers": [_document(item) for item in self.containers.values()],
            "pods": [_document(item) for item in self.pods.values()],
            "pools": [_document(item) for item in self.pools.values()],
        }

    @classmethod
    def of_document(cls, document: Any, now: float) -> "Ledger":
        """The same, read.

        Errors: ValueError, TypeError, KeyError, AttributeError for what is none.
        """
        made = cls()
        for name, (uj, busy, system, nobody, faults) in document["meters"].items():
            known = {_text(code): whole_number(times) for code, times in faults.items()}
            made.meters[_text(name)] = MeterAccount(
                whole_number(uj),
                whole_number(busy),
                whole_number(system),
                whole_number(nobody),
                faults=known,
            )
        busy, idle = document["other"]
        made.other_uj = [whole_number(busy), whole_number(idle)]
        for item in document["containers"]:
            account = _account(item, now)
            made.containers[account.identity.id] = account
        for item in document["pods"]:
            account = _account(item, now)
            made.pods[account.identity.pod_uid] = account
        for item in document["pools"]:
            account = _account(item, None)
            made.pools[account.identity.pool, account.identity.profile] = account
        return made


def whole_number(value: Any) -> int:
    """A number from 0 as it was written. Errors: ValueError."""
    if type(value) is not int or not 0 <= value < 1 << 80:
        raise ValueError(f"{str(value)[:40]!r} is no number from 0")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{str(value)[:40]!r} is no text")
    return value


def _says_more(one: Identity, other: Identity) -> bool:
    """Of two containers of a pod, the one that says what the pod is: named, with a name of its own
    (the sandbox has none), with CPUs of its own.
    """
    return _rank(one) > _rank(other)


def _rank(identity: Identity) -> tuple[bool, bool, bool]:
    return (bool(identity.pod), bool(identity.name), identity.pool == Pool.EXCLUSIVE)


def _rename(account: Account, identity: Identity) -> None:
    """It is there, under this name."""
    if account.ended is not None or (
        account.identity is not identity and account.identity != identity
    ):
        account.identity, account.ended = identity, None
        account.texts.clear()


def _pod_of(identity: Identity) -> Identity:
    return Identity(
        "",
        "",
        identity.namespace,
        pod=identity.pod,
        pod_uid=identity.pod_uid,
        name="",
        pool=identity.pool,
        profile=identity.profile,
    )


def _mark_ended(accounts: Mapping[str, Account], there: Iterable[str], now: float) -> None:
    for name in accounts.keys() - set(there):
        account = accounts[name]
        if account.ended is None:
            account.ended, account.power_uw = now, {}
            account.told.clear()
            account.texts.clear()


def _document(account: Account) -> list[Any]:
    return [account.identity.fields(), account.zones, account.usage_us]


def _account(document: Sequence[Any], now: float | None) -> Account:
    """An account, as of one that is gone until it is met again."""
    fields, zones, used = document
    kept = {
        _text(zone): [whole_number(busy), whole_number(idle)]
        for zone, (busy, idle) in zones.items()
    }
    return Account(Identity(*map(_text, fields)), kept, usage_us=whole_number(used), ended=now)
