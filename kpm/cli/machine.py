"""The verb that shows a machine."""

from collections.abc import Callable, Iterator

import click

from kpm.cli.options import hsmp_option, output_option, print_structured, sysfs_option
from kpm.formats.views import features, machine_view
from kpm.process.errors import InputError, one_line
from kpm.request.hostinfo import with_cpu_model
from kpm.request.options import TreeOptions
from kpm.request.tree import make_host
from kpm_applier.discovery.discover import HostError
from kpm_applier.discovery.discover import discover as discover_machine
from kpm_planner.model.cpuset import format_cpulist
from kpm_planner.model.machine import FrequencyDomain, Machine, PowerLimit
from kpm_planner.model.quantities import format_ghz
from kpm_planner.report.explain import watts


@click.command(short_help="Show the machine.")
@sysfs_option
@hsmp_option
@output_option("table", "json", "yaml")
def discover(sysfs: str, hsmp: str | None, output: str) -> None:
    """Show the machine: CPUs, cores, dies, packages, frequency domains, idle states, uncore, power
    limits, what is supported and why not.

    \b
    kpm discover
    kpm discover --sysfs ./dump/sys -o json > machine.json
    """
    machine = read_tree(TreeOptions(sysfs, hsmp=hsmp))
    if output == "table":
        _print_table(machine)
    else:
        print_structured(machine_view(machine), output)


def read_tree(tree: TreeOptions) -> Machine:
    """The machine of a tree as it is now. Errors: InputError."""
    try:
        host = make_host(tree)
        return with_cpu_model(discover_machine(host).machine, host)
    except HostError as failure:
        raise InputError(f"--sysfs {tree.sysfs}: {one_line(failure)}") from None
    except OSError as failure:
        raise InputError(f"--sysfs {tree.sysfs}: {failure.strerror or one_line(failure)}") from None


def _range(low: int | None, high: int | None, written: Callable[[int], str] = format_ghz) -> str:
    """Two ends of a range, of frequencies in GHz; those that no file says are unknown."""
    ends = ["unknown" if end is None else written(end) for end in (low, high)]
    return "..".join(ends) if (low, high) != (None, None) else "unknown"


def _of_most(limit: PowerLimit) -> str:
    return f" of {watts(limit.max_uw)}" if limit.max_uw else ""


def _window(limit: PowerLimit) -> str:
    return f" over {limit.window_us / 1_000_000:g} s" if limit.window_us else ""


def _print_table(machine: Machine) -> None:
    from kpm.cli.tables import cell, console, plain_table

    out = console()
    for line in _first_lines(machine):
        out.print(cell(line))
    table = plain_table(
        "CPUs", "driver", "hardware GHz", "governors", "now", "EPP", "idle states (µs)"
    )
    for row, members in _kinds_of_cpus(machine).items():
        table.add_row(format_cpulist(members), *map(cell, row))
    out.print(table)
    for line in (*_parts_of(machine), *_limits_of(machine), *_features_of(machine)):
        out.print(cell(line))


def _first_lines(machine: Machine) -> Iterator[str]:
    """What machine it is."""
    architecture = machine.architecture or "architecture unknown"
    packages = {cpu.package for cpu in machine.cpus if cpu.online}
    yield f"{machine.cpu_model or 'unknown CPU'} ({architecture})"
    yield (
        f"{len(machine.online)} of {len(machine.cpus)} CPUs online"
        f" ({format_cpulist(machine.online)}), {machine.cores} cores, {len(packages)} packages"
    )


def _kinds_of_cpus(machine: Machine) -> dict[tuple[str, ...], set[int]]:
    """The cells of a row → the CPUs that have it."""
    rows: dict[tuple[str, ...], set[int]] = {}
    for kind, cpus in machine.kinds:
        states = " ".join(f"{state.name}:{state.latency_us}" for state in kind.idle) or "-"
        rows.setdefault((*_domain_cells(kind.frequency), states), set()).update(cpus)
    return rows


def _domain_cells(domain: FrequencyDomain | None) -> tuple[str, ...]:
    if domain is None:
        return ("-",) * 5
    now = domain.settings
    return (
        str(domain.driver),
        _range(domain.hardware_min_khz, domain.hardware_max_khz),
        " ".join(domain.governors) or "-",
        f"{_range(now.min_khz, now.max_khz)} {now.governor or '-'}",
        now.epp or "-",
    )


def _parts_of(machine: Machine) -> Iterator[str]:
    """Domains, uncore entries, power zones and fabrics."""
    sizes = sorted({len(domain.cpus) for domain in machine.domains})
    yield f"{len(machine.domains)} frequency domains of {', '.join(map(str, sizes)) or 'no'} CPUs"
    for entry in machine.uncore:
        now = _range(entry.min_khz, entry.max_khz)
        can = _range(entry.hardware_min_khz, entry.hardware_max_khz)
        yield f"uncore {entry.name}: {now} GHz of {can}"
    for zone in machine.power_zones:
        limits = ", ".join(
            f"{limit.name} {watts(limit.limit_uw)}{_of_most(limit)}{_window(limit)}"
            for limit in zone.limits
        )
        off = " (switched off)" if zone.enabled is False else ""
        yield f"power {zone.name}: {limits}{off}, {zone.control}"
    for fabric in machine.fabrics:
        yield (
            f"data fabric of package {fabric.package}: P-states {fabric.pstates}, HSMP protocol"
            f" {fabric.protocol or 'unknown'}"
        )


def _limits_of(machine: Machine) -> Iterator[str]:
    """What limits the machine as a whole."""
    if machine.min_percent is not None or machine.max_percent is not None:
        ends = _range(machine.min_percent, machine.max_percent, str)
        yield (
            f"intel_pstate as a whole: {ends} per cent of the highest frequency (min_perf_pct,"
            " max_perf_pct)"
        )


def _features_of(machine: Machine) -> Iterator[str]:
    for feature in features(machine):
        yield f"{feature['name']}: {'yes' if feature['supported'] else 'no'}, {feature['reason']}"
