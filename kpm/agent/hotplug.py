"""CPUs that come and go, as the kernel tells it (uevents, pyroute2); in one thread, imported when it starts."""

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping

from kpm.errors import one_line
from kpm.logs import Log

_CPU = re.compile(r"/devices/system/cpu/cpu(\d{1,7})")


def listen(changed: Callable[[Collection[int]], None], log: Log) -> None:
    """Call `changed` with the CPUs of every CPU uevent, from a thread of its own, for the life of the process.

    Without CPUs where it is not known which came or went.
    """
    threading.Thread(target=_listen, args=(changed, log), name="hotplug", daemon=True).start()


def cpus_of(messages: Iterable[Mapping[str, object]]) -> frozenset[int] | None:
    """CPUs that uevents are about; None where none is about a CPU."""
    paths = [str(message.get("DEVPATH")) for message in messages if message.get("SUBSYSTEM") == "cpu"]
    found = (_CPU.fullmatch(path) for path in paths)
    return frozenset(int(match[1]) for match in found if match) if paths else None


def _listen(changed: Callable[[Collection[int]], None], log: Log) -> None:
    try:
        from pyroute2.netlink.uevent import UeventSocket

        source = UeventSocket()  # a socket belongs to the thread that binds it
        source.bind(groups=1)
    except (ImportError, OSError) as failure:
        log.warning("no CPU hotplug events; the resync finds them", error=one_line(failure))
        return
    changed(())  # what came or went before anybody listened
    while True:
        try:
            messages = source.get()
        except OSError as failure:  # the buffer ran over: look at everything
            log.warning("CPU hotplug events were lost", error=one_line(failure))
            changed(())
            continue
        cpus = cpus_of(messages)
        if cpus is not None:
            changed(cpus)
