"""Whether the files that the agent is to write can be written at all: tried once, by opening them."""

import errno

from kpm_applier.attributes import HSMP_ROOT
from kpm_applier.session import Applier
from kpm_applier.sysfs import SysfsHost

_REMEDY = {
    errno.EROFS: "mount the host's folder of it read-write, as the operator's DaemonSet does",
    errno.EACCES: "run as root; on SELinux or AppArmor nodes use the privileged overlay of deploy/",
    errno.EPERM: "run as root; on SELinux or AppArmor nodes use the privileged overlay of deploy/",
}


def refusal(applier: Applier) -> str:
    """The first file that cannot be opened for writing, with the remedy; empty where all can be."""
    if applier.discovery is None or not isinstance(applier.host, SysfsHost):
        return ""
    for group in applier.discovery.groups:
        for path in group.paths:
            number = applier.host.refuses_writing(path)
            if number and path.startswith(f"{HSMP_ROOT}/"):
                return f"{path}: {errno.errorcode.get(number, number)}: use the hsmp overlay of deploy/"
            if number in _REMEDY:
                return f"{path}: {errno.errorcode[number]}: {_REMEDY[number]}"
    return ""
