"""CPUs that come and go, as the kernel tells it (uevents, pyroute2); in one thread, imported when
it starts.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from kpm.process.errors import one_line
from kpm.process.logs import Log
from kpm.process.threads import Threads

#: Seconds after events were lost, and until a socket that could not be had is tried again.
_PAUSE, _RETRY = 1.0, 300.0
_CPU = re.compile(r"/devices/system/cpu/cpu(\d{1,7})")


def listen(changed: Callable[[Collection[int]], None], log: Log, threads: Threads) -> None:
    """Call `changed` with the CPUs of every CPU uevent, from a thread of its own, for the life of
    the process.

    Without CPUs where it is not known which came or went.
    """
    threads.start("hotplug", lambda: _listen(changed, log))


def cpus_of(messages: Iterable[Mapping[str, object]]) -> frozenset[int] | None:
    """CPUs that uevents are about; None where none is about a CPU."""
    paths = [
        str(message.get("DEVPATH")) for message in messages if message.get("SUBSYSTEM") == "cpu"
    ]
    found = (_CPU.fullmatch(path) for path in paths)
    return frozenset(int(match[1]) for match in found if match) if paths else None


def _listen(changed: Callable[[Collection[int]], None], log: Log) -> None:
    source = _bound(log)
    changed(())  # what came or went before anybody listened
    while True:
        try:
            messages = source.get()
        except OSError as failure:  # the buffer ran over: look at everything
            log.warning("CPU hotplug events were lost", error=one_line(failure))
            changed(())
            time.sleep(_PAUSE)
            continue
        cpus = cpus_of(messages)
        if cpus is not None:
            changed(cpus)


def _bound(log: Log) -> Any:
    """A socket on which the kernel tells; it belongs to the thread that binds it.

    Where there is none it is tried now and then.
    """
    told = False
    while True:
        try:
            from pyroute2.netlink.uevent import UeventSocket

            source = UeventSocket()
            source.bind(groups=1)
        except (ImportError, OSError) as failure:
            if not told:
                log.warning("no CPU hotplug events; the resync finds them", error=one_line(failure))
            told = True
            time.sleep(_RETRY)
        else:
            return source
