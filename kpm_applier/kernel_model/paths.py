"""Paths of a /sys tree taken apart, for the kernel model."""

from functools import lru_cache

from kpm_applier.attributes import CPU_ROOT


@lru_cache(maxsize=1 << 16)
def parse_path(path: str) -> tuple[str, int, int, str]:
    """(area, number, state, name) of a path below the CPU root: the part of the tree, CPU or
    policy, idle state, file. number and state are 0 where they do not apply.

    Only the form is looked at. A form that is not known has area "" and the whole path as its name.
    """
    if not path.startswith(f"{CPU_ROOT}/"):
        return "", 0, 0, path
    words = path[len(CPU_ROOT) + 1 :].split("/")
    match words:
        case [name]:
            return "root", 0, 0, name
        case ["cpufreq" | "cpuidle" | "intel_pstate" | "amd_pstate" as area, name]:
            return area, 0, 0, name
        case ["cpufreq", policy, name] if policy.startswith("policy") and policy[6:].isdigit():
            return "policy", int(policy[6:]), 0, name
        case ["intel_uncore_frequency", entry, name]:
            return f"uncore:{entry}", 0, 0, name
    return _parse_cpu(words, path)


def _parse_cpu(words: list[str], path: str) -> tuple[str, int, int, str]:
    if not (words[0].startswith("cpu") and words[0][3:].isdigit()):
        return "", 0, 0, path
    number = int(words[0][3:])
    match words[1:]:
        case ["cpufreq" | "topology" | "acpi_cppc" as area, name]:
            return f"cpu-{area}", number, 0, name
        case ["power", name]:
            return "cpu-power", number, 0, name
        case ["online"]:
            return "cpu-online", number, 0, "online"
        case ["cpuidle", state, name] if state.startswith("state") and state[5:].isdigit():
            return "cpu-idle", number, int(state[5:]), name
    return "", 0, 0, path


def add_folder(folders: dict[str, set[str]], path: str) -> None:
    """Enter a folder in the lists of all folders above it. folders: path → names in it."""
    while path:
        parent, _, name = path.rpartition("/")
        folders.setdefault(parent, set()).add(name)
        path = parent
