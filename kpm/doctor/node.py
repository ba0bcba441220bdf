"""What is wrong with a node, by its files: driver modes, firmware, kernel, kubelet, other daemons.

A node is a folder with sys, proc, etc, var and run below it: / on the machine itself, a copy of one
anywhere. Every check is a function of what was read; each reads little, and what cannot be read
says nothing.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator

import yaml
from attrs import field, frozen

from kpm.agent.podresources import KUBELET_SOCKET
from kpm.doctor.findings import Code, Finding, error, warning
from kpm.request.first_policy import KUBELET_FILES
from kpm.request.options import TreeOptions
from kpm.request.tree import make_host
from kpm_applier.discovery.clamps import clamps_of
from kpm_applier.discovery.discover import HostError, discover
from kpm_planner.model.machine import Machine

_LARGEST = 64 << 10
_OLDEST_KERNEL = (5, 10)
#: Names of processes that set what this system sets → their unit.
_DAEMONS = {
    "tuned": "tuned",
    "thermald": "thermald",
    "power-profiles-": "power-profiles-daemon",
    "auto-cpufreq": "auto-cpufreq",
    "tlp": "tlp",
    "cpufreqd": "cpufreqd",
    "tuned-ppd": "tuned-ppd",
}
_MOST_PROCESSES = 20_000
#: Words of the command line that keep CPUs from idle states.
_NO_IDLE = re.compile(r"(idle=(poll|halt|nomwait)|(intel_idle|processor)\.max_cstate=[01])")


@frozen
class NodeFacts:
    """What was read of a node. processes: names of what runs; kubelet: its configuration, None
    where there is none; clamps: what holds CPUs back.
    """

    machine: Machine
    model: str = ""
    vendor: str = ""
    flags: frozenset[str] = frozenset()
    command_line: str = ""
    kernel: str = ""
    processes: frozenset[str] = frozenset()
    kubelet: dict[str, object] | None = field(default=None, hash=False)
    kubelet_file: str = ""
    pod_resources: bool = False
    enforcing: bool = False
    read_only: bool = False
    unified: bool = True
    clamps: tuple[str, ...] = ()


def facts_of(root: str) -> NodeFacts:
    """Read a node. Errors: HostError, OSError where there is no machine."""
    host = make_host(TreeOptions(os.path.join(root, "sys")))
    machine = discover(host).machine
    info = _text(root, "proc/cpuinfo")
    kubelet_file, kubelet = _kubelet(root)
    mounts = _text(root, "proc/mounts").splitlines()
    return NodeFacts(
        machine,
        model=_field(info, "model name"),
        vendor=_field(info, "vendor_id"),
        flags=frozenset(_field(info, "flags").split()),
        command_line=_text(root, "proc/cmdline").strip(),
        kernel=_text(root, "proc/sys/kernel/osrelease").strip(),
        processes=_processes(root),
        kubelet=kubelet,
        kubelet_file=kubelet_file,
        pod_resources=os.path.exists(os.path.join(root, KUBELET_SOCKET.lstrip("/"))),
        enforcing=_text(root, "sys/fs/selinux/enforce").strip() == "1",
        read_only=any(
            words[1] == "/sys" and "ro" in words[3].split(",")
            for words in map(str.split, mounts)
            if len(words) > 3
        ),
        unified=os.path.exists(os.path.join(root, "sys/fs/cgroup/cgroup.controllers"))
        or not os.path.isdir(os.path.join(root, "sys/fs/cgroup")),
        clamps=tuple(map(str, clamps_of(host, machine, machine.online))),
    )


def findings_of(facts: NodeFacts, where: str) -> tuple[Finding, ...]:
    """All findings. where: how the node is named."""
    return tuple(
        Finding(item.level, item.code, item.where or where, item.message, item.mend)
        for check in CHECKS
        for item in check(facts)
    )


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read(_LARGEST)
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    """A line of /proc/cpuinfo."""
    found = re.search(rf"^{re.escape(name)}\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _processes(root: str) -> frozenset[str]:
    """Names of running processes; of another machine's copy mostly none."""
    try:
        numbers = [name for name in os.listdir(os.path.join(root, "proc")) if name.isdigit()]
    except OSError:
        return frozenset()
    names = (_text(root, f"proc/{number}/comm").strip() for number in numbers[:_MOST_PROCESSES])
    return frozenset(name for name in names if name)


def _kubelet(root: str) -> tuple[str, dict[str, object] | None]:
    """The kubelet's configuration, and where it stands."""
    for path in KUBELET_FILES:
        text = _text(root, path.lstrip("/"))
        if not text:
            continue
        try:
            found = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError):
            continue
        if isinstance(found, dict):
            return path, found
    return "", None


# --- checks ---


def _driver(facts: NodeFacts) -> Iterator[Finding]:
    domains = facts.machine.domains
    drivers = {str(domain.driver) for domain in domains if domain.driver}
    status = facts.machine.driver_status
    amd = facts.vendor == "AuthenticAMD"
    own = "amd_pstate" if amd else "intel_pstate"
    if status == "off" or (amd and "amd_pstate=disable" in facts.command_line.split()):
        yield error(
            Code.SCALING_DRIVER_OFF,
            "",
            f"{own} is switched off",
            f"echo active > /sys/devices/system/cpu/{own}/status, or take {own}=disable off the"
            " kernel's command line",
        )
    elif not drivers:
        virtual = "hypervisor" in facts.flags
        why = "a virtual machine is given none" if virtual else "firmware keeps them to itself"
        mend = (
            "manage power on the host"
            if virtual
            else "BIOS: let the operating system control P-states (SpeedStep/HWP, CPPC); then"
            " journalctl -k -g 'pstate|cppc|cpufreq'"
        )
        yield error(Code.NO_SCALING_DRIVER, "", f"no frequency can be set: {why}", mend)
    elif "acpi-cpufreq" in drivers and ("hwp" in facts.flags or "cppc" in facts.flags):
        yield warning(
            Code.FALLBACK_DRIVER,
            "",
            f"acpi-cpufreq is used where the processor has {own}",
            f"grubby --update-kernel=ALL --args={own}=active; reboot"
            if amd
            else "take intel_pstate=disable off the kernel's command line; reboot",
        )


def _epp(facts: NodeFacts) -> Iterator[Finding]:
    intel = [item for item in facts.machine.domains if str(item.driver).startswith("intel_")]
    if intel and all(item.settings.epp is None for item in intel) and "hwp" in facts.flags:
        yield warning(
            Code.NO_EPP,
            "",
            "the processor has hardware P-states, and they are off: epp of profiles has no effect",
            "take intel_pstate=no_hwp off the kernel's command line, or enable hardware P-states"
            " (HWP) in the BIOS; reboot",
        )


def _idle(facts: NodeFacts) -> Iterator[Finding]:
    found = _NO_IDLE.search(facts.command_line)
    if found:
        yield warning(
            Code.IDLE_STATES_LIMITED,
            "",
            f"the kernel was started with {found[0]}",
            f"grubby --update-kernel=ALL --remove-args={found[0]}; reboot",
        )
    elif not facts.machine.idle_names:
        yield warning(
            Code.NO_IDLE_STATES,
            "",
            "no CPU has idle states",
            "BIOS: enable C-states; in a virtual machine they are the host's",
        )


def _firmware(facts: NodeFacts) -> Iterator[Finding]:
    for clamp in facts.clamps[:4]:
        yield warning(
            Code.FIRMWARE_LIMIT,
            "",
            clamp,
            "BIOS: power and thermal profile; see to cooling, or raise the cap",
        )
    if facts.machine.boost is False:
        yield warning(
            Code.TURBO_OFF,
            "",
            "turbo is off",
            "turboEnabled: true in a PowerNodeConfig, or in the BIOS",
        )


def _daemons(facts: NodeFacts) -> Iterator[Finding]:
    for name in sorted(facts.processes & _DAEMONS.keys()):
        unit = _DAEMONS[name]
        yield warning(
            Code.OTHER_DAEMON,
            "",
            f"{unit} runs and sets frequencies, governors or limits too",
            f"systemctl disable --now {unit}",
        )


def _kubelet_policy(facts: NodeFacts) -> Iterator[Finding]:
    if facts.kubelet is None:
        return
    policy = facts.kubelet.get("cpuManagerPolicy", "none")
    if policy != "static":
        yield error(
            Code.CPU_MANAGER,
            facts.kubelet_file,
            f"cpuManagerPolicy is {str(policy)[:40]!r}; pods get no CPUs of their own",
            f"set cpuManagerPolicy: static in {facts.kubelet_file}; rm"
            " /var/lib/kubelet/cpu_manager_state; systemctl restart kubelet",
        )
    elif not facts.kubelet.get("reservedSystemCPUs"):
        yield warning(
            Code.RESERVED_CPUS,
            facts.kubelet_file,
            "reservedSystemCPUs is not set",
            f"set reservedSystemCPUs: 0-1 (a core of each package) in {facts.kubelet_file};"
            " systemctl restart kubelet",
        )
    if not facts.pod_resources:
        yield error(
            Code.NO_POD_RESOURCES,
            KUBELET_SOCKET,
            "there is no such socket",
            "systemctl status kubelet",
        )


def _system(facts: NodeFacts) -> Iterator[Finding]:
    if facts.read_only:
        yield error(
            Code.SYSFS_READ_ONLY,
            "/sys",
            "is mounted read-only",
            "run this on the node itself, or mount /sys writable into the container",
        )
    if facts.enforcing:
        yield warning(
            Code.SELINUX,
            "",
            "SELinux enforces; where its policy knows no container_device_plugin_t, writes fail",
            "if agents report Forbidden: kubectl apply -k deploy/overlays/privileged",
        )
    if not facts.unified:
        yield warning(
            Code.CGROUP_V1,
            "/sys/fs/cgroup",
            "is of version 1",
            "grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1; reboot",
        )
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", facts.kernel)
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST_KERNEL:
        yield warning(
            Code.OLD_KERNEL, "", f"the kernel is {facts.kernel[:40]}", "update it to 5.10 or later"
        )


Check = Callable[[NodeFacts], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    _driver, _epp, _idle, _firmware, _daemons, _kubelet_policy, _system,
)  # fmt: skip
__all__ = ["CHECKS", "HostError", "NodeFacts", "facts_of", "findings_of"]
