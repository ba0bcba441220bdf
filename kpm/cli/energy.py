"""The verbs of energy: what pods use now, what a run takes, what a change saved, what a profile
used.
"""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from kpm.cli.options import (
    log_level_option,
    output_option,
    print_lines,
    print_structured,
    say,
    sysfs_option,
)
from kpm.cli.serving_options import ServingOptions, serving_options
from kpm.process.errors import InputError, one_line
from kpm.request.options import TreeOptions
from kpm_planner.model.quantities import duration_s

if TYPE_CHECKING:
    from kpm.energy.collector import EnergyMeter
    from kpm.energy.live import History, Shown
    from kpm_planner.energy.savings import Rate, Saving

_MOST_ROWS = 40
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_YEAR = 365.25 * 86_400
_SHORTEST, _LONGEST = 0.2, 3600.0
_KINDS = ("node", "pool", "pod", "container")


def _duration(_context: object, parameter: click.Parameter, text: str) -> int:
    seconds = duration_s(text)
    if not seconds:
        raise InputError(
            f"{parameter.opts[0]}: expected a duration such as 10s, 30m or 24h, got {text!r}"
        )
    return seconds


def _interval(_context: object, parameter: click.Parameter, text: str) -> float:
    """Seconds between two looks; loads are told in ticks of a hundredth, so not below 0.2."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h)", text, re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not _SHORTEST <= seconds <= _LONGEST:
        raise InputError(
            f"{parameter.opts[0]}: expected a duration of 0.2s to 1h such as 500ms, 2s or 1m, got"
            f" {text!r}"
        )
    return seconds


def _address(_context: object, parameter: click.Parameter, text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise InputError(f"{parameter.opts[0]}: expected an IP address, got {text!r}") from None


def _rest(context: object, parameter: click.Parameter, text: str) -> int:
    return 0 if text == "0s" else _duration(context, parameter, text)


_proc_option = click.option(
    "--proc", default="/proc", show_default=True, metavar="ROOT", help="Where procfs is."
)
_cgroup_option = click.option(
    "--cgroup",
    default="/sys/fs/cgroup",
    show_default=True,
    metavar="ROOT",
    help="Where the cgroup file system is.",
)


def _interval_option(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--interval",
        callback=_interval,
        default=default,
        show_default=True,
        help="Time between two looks, from 0.2s.",
    )


@click.group(invoke_without_command=True, short_help="Joules of pods, runs and profiles.")
@sysfs_option
@_proc_option
@_cgroup_option
@click.option(
    "--pods",
    metavar="FILE",
    help="Pods of this node, as `kubectl get pods -A -o json` prints them, for their names.",
)
@_interval_option("2s")
@click.option(
    "--count",
    type=click.IntRange(1),
    help="So many intervals, then end; by default until interrupted.",
)
@click.option("--estimate", is_flag=True, help="Estimate where nothing measures energy.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line for each interval.")
@click.pass_context
def energy(
    context: click.Context,
    sysfs: str,
    proc: str,
    cgroup: str,
    pods: str | None,
    interval: float,
    count: int | None,
    estimate: bool,
    as_json: bool,
) -> None:
    """Show the watts of this machine by pool and pod, live.

    \b
    kpm energy --pods <(kubectl get pods -A -o json --field-selector spec.nodeName=$(hostname))
    kpm energy --json --count 1
    kpm energy record -w before.json -- ./benchmark
    kpm energy compare before.json after.json --price 0.30 --carbon 380
    """
    if context.invoked_subcommand is not None:
        return
    from kpm.energy.live import look
    from kpm_planner.model.problems import Code

    meter = meter_of(TreeOptions(sysfs), proc, cgroup, pods, estimate=estimate)
    meter.sample()
    absent = [text for code, text in look(meter).problems if code == Code.ENERGY_NO_METER]
    if absent and not estimate and not as_json:
        say(
            "nothing measures energy here, as in most virtual machines; --estimate reckons it from"
            f" load and frequency, 40 to 100 % off: {'; '.join(absent)}",
            err=True,
        )
        context.exit(1)
    if as_json:
        _print_documents(meter, interval, count)
    else:
        _show(meter, interval, count)


def meter_of(
    tree: TreeOptions, proc: str, cgroup: str, pods: str | None, *, estimate: bool
) -> "EnergyMeter":
    """What measures a machine; pods: a file that names them. Errors: InputError."""
    from kpm.cli.machine import read_tree
    from kpm.energy.coefficients import coefficients_for
    from kpm.energy.collector import EnergyMeter, EnergySettings
    from kpm.energy.names import known_containers
    from kpm.energy.sampler import Roots, Sampler
    from kpm.formats.documents import read_documents
    from kpm.process.logs import make_log
    from kpm.request.objects import cluster_of

    known = cluster_of(read_documents([pods])).pods if pods else ()
    sampler = Sampler(Roots(tree.sysfs, proc, cgroup), coefficients_for(proc) if estimate else None)
    meter = EnergyMeter(
        os.uname().nodename,
        EnergySettings(idle="requests", proc=proc),
        sampler,
        make_log("energy", "error"),
    )
    meter.follow(read_tree(tree), *known_containers(known, (), ()))
    return meter


def _print_documents(meter: "EnergyMeter", interval: float, count: int | None) -> None:
    from kpm.energy.live import document, look

    for _ in _rounds(count):
        time.sleep(interval)
        meter.sample()
        click.echo(json.dumps(document(look(meter))))


def _rounds(count: int | None) -> Iterable[int]:
    number = 0
    while count is None or number < count:
        yield number
        number += 1


def _show(meter: "EnergyMeter", interval: float, count: int | None) -> None:
    from rich.live import Live

    from kpm.cli.tables import console
    from kpm.energy.live import History, look

    out, history, shown = console(), History(), None
    if not out.is_terminal:  # a reader of a pipe gets each look as it is made
        for _ in _rounds(count):
            time.sleep(interval)
            meter.sample()
            out.print(_table(look(meter), history))
            out.file.flush()
        return
    with Live(console=out, auto_refresh=False, screen=count is None) as live:
        try:
            for _ in _rounds(count):
                time.sleep(interval)
                meter.sample()
                shown = _table(look(meter), history)
                live.update(shown, refresh=True)
        except KeyboardInterrupt:
            pass
    if count is None and shown is not None:  # the screen of its own is gone; what it showed stays
        out.print(shown)


def _table(shown: "Shown", history: "History") -> Any:
    from rich.console import Group

    from kpm.cli.tables import cell, plain_table
    from kpm.energy.live import sparkline

    past = history.add(shown)
    head = ", ".join(
        f"{zone} of {place} {'not read' if watts is None else f'{watts:.1f} W'} ({source})"
        for zone, place, source, watts, _ in shown.meters
    )
    table = plain_table("", "name", "profile", "busy W", "idle W", "joules", "power")
    rows = sorted(
        shown.rows, key=lambda row: (_KINDS.index(row.kind), -row.busy - row.idle, row.name)
    )
    for row in rows[:_MOST_ROWS]:
        values = (
            f"{row.busy:.2f}",
            f"{row.idle:.2f}",
            f"{row.joules:.1f}",
            sparkline(past[row.kind, row.name]),
        )
        table.add_row(cell(row.kind), cell(row.name), cell(row.profile or "-"), *map(cell, values))
    more = [cell(f"… and {len(rows) - _MOST_ROWS} more")] if len(rows) > _MOST_ROWS else []
    total = "nothing measures energy here" if shown.watts is None else f"{shown.watts:.1f} W"
    return Group(
        cell(f"{total}   {head}"),
        table,
        *more,
        *(cell(f"! {code}: {text}", "yellow") for code, text in shown.problems),
    )


@energy.command("serve")
@sysfs_option
@_proc_option
@_cgroup_option
@click.option(
    "--address",
    metavar="IP",
    default="",
    callback=_address,
    help="One address to listen at; default all.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=10258, show_default=True)
@_interval_option("10s")
@click.option("--estimate", is_flag=True, help="Estimate where nothing measures energy.")
@click.option(
    "--name",
    "names",
    multiple=True,
    type=click.Choice(["kpm", "kepler", "kepler-0.7"]),
    help="Names of the series; may be given more than once. Default kpm and kepler.",
)
@click.option(
    "--state-file", "state", default="", metavar="FILE", help="Totals that outlive a restart."
)
@serving_options
@log_level_option
def serve_verb(
    sysfs: str, proc: str, cgroup: str, address: str, port: int, interval: float, estimate: bool,
    names: tuple[str, ...], state: str, serving: ServingOptions, log_level: str,
) -> None:  # fmt: skip
    """Tell the energy of this machine to a Prometheus at /metrics, without Kubernetes. Ends at
    SIGTERM.

    \b
    kpm energy serve --address 127.0.0.1 --state-file /var/lib/kpm/energy
    """
    import threading

    from kpm.cli.machine import read_tree
    from kpm.energy.coefficients import coefficients_for
    from kpm.energy.collector import EnergyMeter, EnergySettings
    from kpm.energy.exposition import build_labels
    from kpm.energy.names import known_containers
    from kpm.energy.sampler import Roots, Sampler
    from kpm.process.ending import listen, on_signals
    from kpm.process.logs import make_log
    from kpm.process.serving import health_answers, metric_answers, process_registry
    from kpm.process.threads import Threads

    log = make_log("energy", log_level)
    settings = EnergySettings(
        names=names or ("kpm", "kepler"),
        interval=interval, state=state, proc=proc,
    )  # fmt: skip
    sampler = Sampler(Roots(sysfs, proc, cgroup), coefficients_for(proc) if estimate else None)
    meter = EnergyMeter(os.uname().nodename, settings, sampler, log, build_labels())
    meter.follow(read_tree(TreeOptions(sysfs)), *known_containers((), (), ()))
    ends, threads = threading.Event(), Threads(log)
    listen()
    on_signals(lambda *_: ends.set())
    meter.start(threads)
    registry = process_registry()
    health = health_answers(lambda: not threads.trouble(), lambda: meter.last.elapsed_us > 0)
    used = serving.serve(
        port, threads, health, metric_answers(lambda: registry, meter.metrics), address=address
    )
    log.info("energy is told", port=used, address=address or "all")
    ends.wait()
    meter.stop()


@energy.command("record", context_settings={"ignore_unknown_options": True})
@sysfs_option
@click.option(
    "-n",
    "--repeats",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How often the command is run.",
)
@click.option(
    "--settle", callback=_rest, default="1s", show_default=True, help="Rest before each run."
)
@click.option("-w", "--write", "path", metavar="FILE", help="Keep the measurements, for compare.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def record_verb(
    sysfs: str, repeats: int, settle: int, path: str | None, command: tuple[str, ...]
) -> None:
    """Run COMMAND some times over and measure the energy of the machine meanwhile, with its
    standard error.

    Everything that runs on the machine counts. What the command prints goes where it goes; the
    result is on standard error.

    \b
    kpm energy record -n 10 -w before.json -- ./benchmark --seconds 30
    """
    from kpm.energy.record import record, recording_document
    from kpm_planner.energy.savings import mean_of

    def progress(number: int) -> None:
        if sys.stderr.isatty():
            say(f"run {number} of {repeats}", err=True)

    found = record(sysfs, command, repeats, settle, progress)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(recording_document(found), file, indent=1)
    joules, seconds = (
        mean_of([run.total for run in found.runs]),
        mean_of([run.seconds for run in found.runs]),
    )
    lines = [
        (
            f"{joules.mean:.3f} J ± {joules.error:.3f} J (standard error of {joules.count}),"
            f" {seconds.mean:.3f} s ± {seconds.error:.3f} s"
        )
    ]
    for place in found.runs[0].joules:
        part = mean_of([run.joules.get(place, 0.0) for run in found.runs])
        lines.append(f"  {place}: {part.mean:.3f} J ± {part.error:.3f} J")
    failed = sorted({run.status for run in found.runs if run.status})
    print_lines(
        [
            *lines,
            *([f"the command ended with status {', '.join(map(str, failed))}"] if failed else []),
        ]
    )
    if failed:
        raise SystemExit(1)


_price = click.option(
    "--price",
    metavar="NUMBER|CSV",
    help="Money per kWh: a number, or a CSV file of times and numbers.",
)
_currency = click.option(
    "--currency", default="EUR", show_default=True, metavar="CODE", help="What --price is in."
)
_carbon = click.option(
    "--carbon",
    metavar="NUMBER|CSV",
    help="Grams of CO2e per kWh: a number, or a CSV file of times and numbers.",
)


def _rates(price: str | None, carbon: str | None) -> "dict[str, tuple[Rate, ...]]":
    """What is asked to be reckoned beside joules, by the name that it is shown under."""
    from kpm.energy.rates import rates_of

    asked = (("money", "--price", price), ("gramsCO2e", "--carbon", carbon))
    return {name: rates_of(option, text) for name, option, text in asked if text is not None}


@energy.command("compare")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@_price
@_currency
@_carbon
@click.option(
    "--confidence",
    type=click.IntRange(50, 99),
    default=95,
    show_default=True,
    help="Of the interval, per cent.",
)
@output_option("table", "json", "yaml")
def compare_verb(
    before: str, after: str, price: str | None, currency: str, carbon: str | None,
    confidence: int, output: str,
) -> None:  # fmt: skip
    """Say what B saved against A, two recordings of `kpm energy record`, with a confidence
    interval (Welch).

    \b
    kpm energy compare before.json after.json --price 0.30 --carbon grid.csv
    """
    from kpm.energy.record import Recording, read_recording
    from kpm_planner.energy.savings import compare, cost, rate_at

    first, second = read_recording(before), read_recording(after)

    def costs(recording: Recording, rates: "tuple[Rate, ...]") -> list[float]:
        return [
            cost(run.total, rate_at(rates, run.began + run.seconds / 2)) for run in recording.runs
        ]

    found = {
        "joules": compare(
            [run.total for run in first.runs], [run.total for run in second.runs], confidence
        )
    }
    found["seconds"] = compare(
        [run.seconds for run in first.runs], [run.seconds for run in second.runs], confidence
    )
    for name, rates in _rates(price, carbon).items():
        found[name] = compare(costs(first, rates), costs(second, rates), confidence)
    if output != "table":
        print_structured(
            {
                "version": 1,
                "confidence": confidence,
                "currency": currency,
                **{name: _saving_document(item) for name, item in found.items()},
            },
            output,
        )
        return
    _print_savings(found)
    _print_year(found, one_line(currency, 12))


def _print_year(found: "dict[str, Saving]", currency: str) -> None:
    """What a saving is in a year in which the command runs all the time."""
    money, seconds = found.get("money"), found["seconds"].after.mean
    if money is None or not seconds:
        return
    year = money.saved / seconds * _YEAR
    note = "" if money.certain else ", which is not certain"
    say(f"{year:.2f} {currency} a year, run without a pause{note}")


def _saving_document(item: "Saving") -> dict[str, Any]:
    means = {
        name: {"count": mean.count, "mean": mean.mean, "standardError": mean.error}
        for name, mean in (("before", item.before), ("after", item.after))
    }
    return {
        **means,
        "saved": item.saved,
        "share": item.share,
        "low": item.low,
        "high": item.high,
        "certain": item.certain,
    }


def _print_savings(found: "dict[str, Saving]") -> None:
    from kpm.cli.tables import cell, console, plain_table

    confidence = found["joules"].confidence
    table = plain_table("", "A", "B", "saved", "%", f"{confidence} % interval", "")
    for name, item in found.items():
        interval = (
            "measured once"
            if item.low is None or item.high is None
            else f"{item.low:.6g} to {item.high:.6g}"
        )
        word = (
            "saved"
            if item.certain and item.saved > 0
            else "more"
            if item.certain
            else "not certain"
        )
        share = "-" if item.share is None else f"{item.share:.1%}"
        texts = (
            name,
            f"{item.before.mean:.6g} ± {item.before.error:.3g}",
            f"{item.after.mean:.6g} ± {item.after.error:.3g}",
            f"{item.saved:.6g}",
            share,
            interval,
            word,
        )
        table.add_row(*map(cell, texts))
    console().print(table)


@energy.command("report")
@click.option(
    "--prometheus",
    required=True,
    metavar="URL",
    envvar="KPM_PROMETHEUS",
    help="Where the Prometheus is that scrapes the agents.",
)
@click.option("--profile", help="Only the pods under this profile.")
@click.option("--since", callback=_duration, default="24h", show_default=True, help="How far back.")
@_price
@_carbon
@output_option("table", "json", "yaml")
def report_verb(
    prometheus: str,
    profile: str | None,
    since: int,
    price: str | None,
    carbon: str | None,
    output: str,
) -> None:
    """Say what the pods of a profile used in a cluster, out of its Prometheus.

    \b
    kpm energy report --prometheus http://localhost:9090 --since 24h --price 0.30
    """
    from kpm.energy.prometheus import report
    from kpm_planner.energy.savings import cost, rate_at

    end = time.time()
    rates = _rates(price, carbon)
    lines = report(prometheus, profile, since, end)

    def row(joules: float) -> dict[str, float]:
        return {
            name: cost(joules, rate_at(known, end - since / 2)) for name, known in rates.items()
        }

    total = sum(line.busy + line.idle for line in lines)
    rows = [
        {
            "profile": line.profile,
            "pool": line.pool,
            "pod": line.pod,
            "busyJoules": line.busy,
            "idleJoules": line.idle,
            "watts": (line.busy + line.idle) / since,
            **row(line.busy + line.idle),
        }
        for line in lines
    ]
    if output != "table":
        print_structured(
            {
                "version": 1,
                "seconds": since,
                "joules": total,
                "watts": total / since,
                **row(total),
                "pods": rows,
            },
            output,
        )
        return
    if not rows:
        say(
            f"no pod{f' of profile {one_line(profile, 60)}' if profile else ''} used energy in that"
            " time; are metrics on (spec.agent.metrics), and scraped?",
            err=True,
        )
        raise SystemExit(1)
    _print_report(rows, {"joules": total, "watts": total / since, **row(total)})


def _print_report(rows: list[dict[str, Any]], total: dict[str, float]) -> None:
    from kpm.cli.tables import cell, console, plain_table

    table = plain_table(*rows[0])
    for item in rows:
        table.add_row(
            *(
                cell(f"{value:.6g}" if isinstance(value, float) else value or "-")
                for value in item.values()
            )
        )
    out = console()
    out.print(table)
    out.print(cell("total " + ", ".join(f"{value:.6g} {name}" for name, value in total.items())))
