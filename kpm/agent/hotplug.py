"""CPUs that come and go, as the kernel tells it (uevents, pyroute2); in one thread, imported when it starts."""

import threading
from collections.abc import Callable

from kpm.errors import one_line
from kpm.logs import Log


def listen(changed: Callable[[], None], log: Log) -> None:
    """Call `changed` for every CPU uevent, from a thread of its own, for the life of the process."""
    threading.Thread(target=_listen, args=(changed, log), name="hotplug", daemon=True).start()


def _listen(changed: Callable[[], None], log: Log) -> None:
    try:
        from pyroute2.netlink.uevent import UeventSocket

        source = UeventSocket()  # a socket belongs to the thread that binds it
        source.bind(groups=1)
    except (ImportError, OSError) as failure:
        log.warning("no CPU hotplug events; the resync finds them", error=one_line(failure))
        return
    changed()  # what came or went before anybody listened
    while True:
        try:
            messages = source.get()
        except OSError as failure:  # the buffer ran over: look at everything
            log.warning("CPU hotplug events were lost", error=one_line(failure))
            changed()
            continue
        if any(message.get("SUBSYSTEM") == "cpu" for message in messages):
            changed()
