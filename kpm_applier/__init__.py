"""Node input and output: discover, observe, diff, apply, verify, restore.

Knows sysfs and no Kubernetes. What a program needs to apply and restore is importable from here,
and loaded when it is asked for: the helper, which loads no library, imports modules beside it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kpm_applier.diff import Repair
    from kpm_applier.discovery.discover import Discovery, HostError, discover
    from kpm_applier.session import Applier, Report
    from kpm_applier.state.record import State, StateError
    from kpm_applier.state.store import StateStore, Store
    from kpm_applier.sysfs.host import Host
    from kpm_applier.sysfs.tree import SysfsHost

__all__ = [
    "Applier",
    "Discovery",
    "Host",
    "HostError",
    "Repair",
    "Report",
    "State",
    "StateError",
    "StateStore",
    "Store",
    "SysfsHost",
    "discover",
]

_WHERE = {
    "Applier": "session",
    "Discovery": "discovery.discover",
    "Host": "sysfs.host",
    "HostError": "discovery.discover",
    "Repair": "diff",
    "Report": "session",
    "State": "state.record",
    "StateError": "state.record",
    "StateStore": "state.store",
    "Store": "state.store",
    "SysfsHost": "sysfs.tree",
    "discover": "discovery.discover",
}


def __getattr__(name: str) -> Any:
    """A public name, loaded now. Errors: AttributeError."""
    if name not in _WHERE:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
