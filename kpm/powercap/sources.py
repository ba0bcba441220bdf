"""The power that a provider names for an instant, with the trade that it comes from."""

import os
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from http.client import HTTPException

from attrs import define, field, frozen

from kpm.powercap.settings import Environment, Provider
from kpm.powercap.trades import LARGEST_FILE, mock_trades, parse_trades
from kpm.process.errors import InputError
from kpm.process.fetching import fetch
from kpm.process.logs import Log
from kpm_planner.caps.legacy_tool import Trade, market_uw, solar_uw, trade_at
from kpm_planner.caps.schedule import local_time

#: What the files of the csv provider may begin with, the first that is there.
_PREFIXES = ("csv", "epex", "mock", "static")


@frozen
class Supply:
    """What there is to spend, µW. trade: where it comes from a market."""

    uw: int
    trade: Trade | None = None


@define
class Sources:
    """One provider.

    A day's data are read once; while they are missing, again at every look, and yesterday's hold.
    """

    environment: Environment
    log: Log
    read: Callable[[str, date], bytes]
    _days: dict[date, tuple[Trade, ...]] = field(factory=dict)
    _began: bool = False
    _why: str = ""

    def at(self, instant: datetime, maximum_uw: int) -> Supply:
        """What there is to spend at an instant."""
        settings, provider = self.environment.settings, self.environment.provider
        local = local_time(instant, self.environment.zone)
        minute = local.hour * 60 + local.minute + local.second / 60
        if provider is Provider.SOLAR:
            return Supply(solar_uw(settings, minute))
        if provider is Provider.STATIC:
            return Supply(settings.max_source_uw)
        trades = mock_trades() if provider is Provider.MOCK else self._day(local.date())
        if not trades and not self._began:
            raise InputError(
                f"PROVIDER_URL: no market data of {local.date()} or the day before, so no limit is"
                f" set: {self._why}"
            )
        self._began = True
        trade = trade_at(trades, minute)
        if trade is None:
            return Supply(settings.min_uw)
        return Supply(market_uw(trades, trade, maximum_uw, settings.mode), trade)

    def _day(self, day: date) -> tuple[Trade, ...]:
        for wanted in (day, day - timedelta(days=1)):
            if wanted not in self._days:
                trades = self._read(wanted)
                if trades:
                    self._days = {
                        known: value
                        for known, value in self._days.items()
                        if day - known <= timedelta(days=1)
                    } | {wanted: trades}
            if wanted in self._days:
                return self._days[wanted]
        return ()

    def _read(self, day: date) -> tuple[Trade, ...]:
        try:
            return parse_trades(self.read(self.environment.url, day), f"data of {day}")
        except (OSError, ValueError, HTTPException, InputError) as failure:
            self._why = str(failure)
            self.log.warning("no market data", day=str(day), error=str(failure)[:200])
            return ()


def sources_of(environment: Environment, log: Log) -> Sources:
    """The provider that the settings name."""
    if environment.provider is Provider.EPEX:
        return Sources(
            environment,
            log,
            lambda url, day: fetch(_address(url, environment.params, day), LARGEST_FILE + 1),
        )
    return Sources(environment, log, _read_file)


def _address(url: str, params: Mapping[str, str], day: date) -> str:
    """The address of one day: {date} in it is the day, else it goes along as a parameter with the
    others.
    """
    given = dict(params)
    if "{date}" in url:
        url = url.replace("{date}", str(day))
    else:
        given |= {"trading_date": str(day - timedelta(days=1)), "delivery_date": str(day)}
    query = urllib.parse.urlencode(given)
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def _read_file(folder: str, day: date) -> bytes:
    """The file of one day. Errors: OSError."""
    folder = folder.removeprefix("file://")
    for prefix in _PREFIXES:
        path = os.path.join(folder, f"{prefix}_data_{day}.csv")
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(LARGEST_FILE + 1)
    raise FileNotFoundError(
        2, os.strerror(2), os.path.join(folder, f"{{{','.join(_PREFIXES)}}}_data_{day}.csv")
    )
