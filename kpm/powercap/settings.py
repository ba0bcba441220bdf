"""Settings out of the environment, by the names that the earlier tool's manifests use."""

import json
import re
from collections.abc import Mapping
from datetime import tzinfo
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen

from kpm.process.errors import InputError, one_line
from kpm.request.readings import time_zone
from kpm_planner.caps.legacy_tool import CalcMode, CapSettings, PmaxFunc

_LARGEST_UW = 4_000_000_000
_LONGEST = 2048
_CRON = "DATA_REFRESH_CRON"
_MARKET = ("PROVIDER_URL", "PROVIDER_PARAMS", _CRON)
_PAGE = "epexspot.com"
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)
_Word = TypeVar("_Word", bound=StrEnum)


class Provider(StrEnum):
    """Where the power of a source comes from."""

    SOLAR = "solar"
    STATIC = "static"
    MOCK = "mock"
    CSV = "csv"
    EPEX = "epex"


@frozen
class Environment:
    """All settings. stabilisation: seconds between two looks. url: folder of csv files, or address
    of the epex provider.
    """

    node: str
    settings: CapSettings
    stabilisation: float = 300
    provider: Provider = Provider.SOLAR
    url: str = ""
    params: Mapping[str, str] = field(factory=dict, hash=False)
    zone: tzinfo = field(kw_only=True)
    told_source: bool = field(default=True, kw_only=True)


def read_environment(values: Mapping[str, str]) -> Environment:
    """The settings. Errors: InputError that names the variable, the value and what is allowed."""
    node = values.get("NODE_NAME", "")
    if not node:
        raise InputError("NODE_NAME: is missing; the name of this node is needed")
    zone_name = values.get("TIMEZONE") or "Europe/Paris"
    zone = time_zone(zone_name)
    if zone is None:
        raise InputError(
            f"TIMEZONE: expected a time zone such as Europe/Paris, got {one_line(zone_name, 60)!r}"
        )
    settings = CapSettings(
        _number(values, "MAX_SOURCE", 40_000_000, 1, _LARGEST_UW),
        _decimal(values, "ALPHA", 4, 1, 16),
        _number(values, "RAPL_MIN_POWER", 10_000_000, 1, _LARGEST_UW),
        ratio_floor=_decimal(values, "RAPL_LIMIT", 60, 0, 100)
        if values.get("RAPL_LIMIT")
        else None,
        pmax_func=_word(values, "PMAX_FUNC", PmaxFunc.MAX),
        mode=_word(values, "POWER_CALC_MODE", CalcMode.MAX),
    )
    made = Environment(
        node,
        settings,
        _decimal(values, "STABILISATION_TIME", 300, 1, 86_400),
        provider=_word(values, "DATA_PROVIDER", Provider.SOLAR),
        url=values.get("PROVIDER_URL", "")[:_LONGEST],
        params=_params(values.get("PROVIDER_PARAMS", "")),
        zone=zone,
        told_source=bool(values.get("MAX_SOURCE")),
    )
    _agree(values, made)
    return made


def _agree(values: Mapping[str, str], made: Environment) -> None:
    """Errors: InputError where settings do not go together."""
    market = [
        name for name in _MARKET if values.get(name) and (name != "PROVIDER_PARAMS" or made.params)
    ]
    if not values.get("DATA_PROVIDER") and market:
        raise InputError(
            f"DATA_PROVIDER: is missing, but {market[0]} is given; csv, epex or mock is needed, or"
            " solar"
        )
    if made.provider is Provider.STATIC and not made.told_source:
        raise InputError("MAX_SOURCE: is missing; the static provider needs the power of the node")
    if made.provider is Provider.STATIC and values.get(_CRON):
        raise InputError(
            f"DATA_PROVIDER: expected epex or csv where {_CRON} is set, got 'static', which was a"
            " made-up curve of the day there and is MAX_SOURCE all the time here"
        )
    if made.provider is Provider.EPEX and not made.url.startswith(("http://", "https://")):
        raise InputError(
            "PROVIDER_URL: expected an address that begins with http:// or https:// for provider"
            f" epex, got {one_line(made.url, 60)!r}"
        )
    if made.provider is Provider.EPEX and _is_page(made.url):
        raise InputError(
            "PROVIDER_URL: expected the address of CSV files for provider epex, got the web page"
            f" {one_line(made.url, 60)!r}"
        )
    if made.provider is Provider.CSV and not made.url:
        raise InputError("PROVIDER_URL: is missing; the csv provider needs the folder of its files")


def _is_page(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host == _PAGE or host.endswith(f".{_PAGE}")


def _decimal(values: Mapping[str, str], name: str, default: int, low: int, high: int) -> float:
    text = values.get(name) or str(default)
    if not _DECIMAL.fullmatch(text) or not low <= float(text) <= high:
        raise InputError(
            f"{name}: expected a number from {low} to {high}, got {one_line(text, 60)!r}"
        )
    return float(text)


def _number(values: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = values.get(name) or str(default)
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or not low <= int(text) <= high:
        raise InputError(
            f"{name}: expected a whole number from {low} to {high}, got {one_line(text, 60)!r}"
        )
    return int(text)


def _word(values: Mapping[str, str], name: str, default: _Word) -> _Word:
    text = (values.get(name) or default.value).lower()
    kind = type(default)
    if text not in [item.value for item in kind]:
        raise InputError(
            f"{name}: expected one of {', '.join(item.value for item in kind)},"
            f" got {one_line(text, 60)!r}"
        )
    return kind(text)


def _params(text: str) -> dict[str, str]:
    """Parameters of the provider's address, a JSON object of texts and numbers."""
    try:
        content: Any = json.loads(text[: _LONGEST + 1]) if text else {}
    except (ValueError, RecursionError):
        content = None
    if (
        not isinstance(content, dict)
        or len(text) > _LONGEST
        or not all(isinstance(value, str | int | float) for value in content.values())
    ):
        raise InputError(
            "PROVIDER_PARAMS: expected a JSON object of texts and numbers, got"
            f" {one_line(text, 60)!r}"
        )
    return {str(key): str(value) for key, value in content.items()}
