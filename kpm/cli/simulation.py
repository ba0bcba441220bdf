"""The verb that simulates."""

import os
import sys

import click

from kpm.cli.options import print_lines, say
from kpm.simulate.scenario import read_scenario
from kpm.simulate.simulation import run
from kpm.simulate.world import StepView

EMBEDDED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "simulate", "quickstart.yaml")


@click.command()
@click.argument("scenario", required=False, metavar="[SCENARIO]")
@click.option("--html", metavar="FILE", help="Write the simulation as one self-contained page.")
@click.option("--svg", metavar="FILE", help="Write what the terminal shows as a picture.")
@click.option(
    "--price",
    type=click.FloatRange(0),
    default=0.30,
    show_default=True,
    metavar="EUR",
    help="Of a kWh, for the page.",
)
@click.option(
    "--carbon",
    type=click.FloatRange(0),
    default=380.0,
    show_default=True,
    metavar="GRAMS",
    help="CO2e of a kWh, for the page.",
)
@click.option("-q", "--quiet", is_flag=True, help="Only say which expectations do not hold.")
def simulate(
    scenario: str | None, html: str | None, svg: str | None, price: float, carbon: float,
    quiet: bool,
) -> None:  # fmt: skip
    """Run a scenario on simulated machines and show them, CPU by CPU.

    Without SCENARIO the built-in quickstart runs. Exit 1 where an expectation of the scenario does
    not hold.

    \b
    kpm simulate
    kpm simulate examples/mixed-use/scenario.yaml --html mixed-use.html
    """
    from kpm.cli.tables import console
    from kpm.simulate.terminal import print_head, print_step

    found = read_scenario(scenario or EMBEDDED)
    out = console(record=svg is not None, width=132 if svg is not None else None)
    if not quiet:
        print_head(out, found)
    views: list[StepView] = []
    failed: list[str] = []
    for view in run(found):
        failed += [f"step {view.number} ({view.name}): {line}" for line in view.differences]
        if not quiet:
            print_step(out, view)
        if html is not None:
            views.append(view)
    if html is not None:
        from kpm.cli.pages import write_page
        from kpm.simulate.page import Rates, page_of

        write_page(html, page_of(found, views, Rates(price, grams=carbon)))
    if svg is not None:
        out.save_svg(
            svg, title=f"kpm simulate {os.path.basename(scenario) if scenario else ''}".strip()
        )
    if quiet:
        print_lines(f"kpm: {line}" for line in failed)
    elif failed:
        say(f"kpm: {len(failed)} expectations do not hold; each stands with its step", err=True)
    sys.exit(1 if failed else 0)
