"""Make the pictures and the generated pages of this folder out of the program itself (make
pages).

python docs/make_pages.py [FOLDER]      default: this folder
"""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from rich.text import Text

from kpm.cli.simulation import EMBEDDED
from kpm.cli.tables import console
from kpm.doctor.findings import MEANINGS
from kpm.formats.crds import KINDS, crd
from kpm.operator.mounts import Mount, mounts
from kpm.request.machines import MODELS, build_machine
from kpm.simulate.page import page_of
from kpm.simulate.polling import bursts, follow, noise, ramp, square
from kpm.simulate.scenario import read_scenario
from kpm.simulate.simulation import run
from kpm.simulate.terminal import print_head, print_step
from kpm_applier.kernel_model.model import KernelModel
from kpm_planner.model.agent_settings import AgentSettings, MetricSettings
from kpm_planner.model.problems import REGISTRY
from kpm_planner.model.scaling_policy import CpuScalingPolicy
from kpm_planner.scaling import scaling_of
from tests.trees import write_tree

#: Steps of the quickstart that the README's picture shows.
_SHOWN = (1, 3, 4)
REPO = Path(__file__).parents[1]
#: Commands on the machine of the picture of the first ten minutes.
_FIRST_LOOK = (
    "init -o policy.yaml",
    "plan -f policy.yaml",
    "diff -f policy.yaml",
    "explain -f policy.yaml cpu 1",
)


def quickstart_picture() -> str:
    """What a terminal shows of the quickstart, as SVG."""
    scenario = read_scenario(EMBEDDED)
    out = console(record=True, width=120)
    out.file = io.StringIO()
    print_head(out, scenario)
    for view in run(scenario):
        if view.number in _SHOWN:
            print_step(out, view)
    return out.export_svg(title="kpm simulate", unique_id="kpm")


def first_look_picture() -> str:
    """What a terminal shows of the first verbs on a server, run as processes."""
    lines = Text()
    with tempfile.TemporaryDirectory() as folder:
        tree = write_tree(KernelModel(build_machine(MODELS["xeon"])), Path(folder)).root
        for line in _FIRST_LOOK:
            verb, *words = line.split()
            own = [] if verb == "init" else ["--state-dir", f"{folder}/state", "--node", "server"]
            done = subprocess.run(
                [sys.executable, "-m", "kpm", verb, "--sysfs", tree, *own, *words],
                cwd=folder,
                env={**os.environ, "FORCE_COLOR": "1", "COLUMNS": "100", "PYTHONPATH": str(REPO)},
                capture_output=True,
                text=True,
                check=False,
            )
            lines.append(f"$ kpm {line}\n", "bold")
            lines.append_text(Text.from_ansi(f"{done.stdout}{done.stderr}\n"))
    out = console(record=True, width=100)
    out.file = io.StringIO()
    out.print(lines)
    return out.export_svg(title="kpm", unique_id="first-look")


def quickstart_page() -> str:
    """The quickstart as the page that --html writes."""
    scenario = read_scenario(EMBEDDED)
    return page_of(scenario, list(run(scenario)))


def problems_page() -> str:
    """The list of problem codes."""
    head = (
        "# Problem codes\n\nWhat could not be honoured is a value with a stable code. An error"
        " makes its object invalid on that node; a warning does not.\n\n"
    )
    rows = "".join(
        f"| `{code}` | {meaning} | {remedy} |\n"
        for code, (meaning, remedy) in sorted(REGISTRY.items())
    )
    return f"{head}| code | meaning | what to do |\n|---|---|---|\n{rows}"


def doctor_page() -> str:
    """The list of what the doctor may find."""
    head = (
        "# What the doctor finds\n\n`kpm doctor` looks at a node (`--root` at a copy of one),"
        " `kubectl power doctor` at a cluster. Each finding has a stable code and the command or"
        " setting that mends it, which nobody runs by himself. 0 is the exit status where nothing"
        " was found, 1 else.\n\n"
    )
    rows = "".join(f"| `{code}` | {meaning} |\n" for code, meaning in sorted(MEANINGS.items()))
    return f"{head}| code | meaning |\n|---|---|\n{rows}"


def security_page() -> str:
    """The page on security with the table of mounts as the operator makes them, with every setting
    that adds one.
    """
    page = (Path(__file__).parent / "user/security.md").read_text(encoding="utf-8")
    head, _, rest = page.partition(_MOUNTS)
    _, end, tail = rest.partition(_END_OF_MOUNTS)
    everything = AgentSettings(
        power_caps=("rapl", "amd"),
        metrics=MetricSettings(("process",)),
        claim_socket="/var/lib/kubelet/plugins/DRIVER/pod-resources.sock",
    )
    plain, measuring, all_of_it = (
        mounts(settings)
        for settings in (AgentSettings(), AgentSettings(metrics=MetricSettings()), everything)
    )
    capping = mounts(AgentSettings(power_caps=("rapl", "amd")))
    guarded, bound = (
        mounts(AgentSettings(metrics_access="token")),
        mounts(AgentSettings(source="nri")),
    )
    when = {
        **dict.fromkeys(guarded, "metricsAccess"),
        **dict.fromkeys(all_of_it, "level process, or claimSocket"),
        **dict.fromkeys(capping, "powerCaps"),
        **dict.fromkeys(measuring, "metrics"),
        **dict.fromkeys(bound, "metrics, or source nri"),
        **dict.fromkeys(plain, ""),
    }
    ordered = sorted(when.items(), key=lambda pair: (pair[0].container, pair[1], pair[0].target))
    rows = "".join(_mount_row(item, only) for item, only in ordered)
    table = (
        "| container | of the host | in the container | written | why | only with"
        f" |\n|---|---|---|---|---|---|\n{rows}"
    )
    return f"{head}{_MOUNTS}\n{table}{end}{tail}"


def _mount_row(item: Mount, only: str) -> str:
    source = f"`{item.source}`" if item.source.startswith("/") else "none"
    return (
        f"| {item.container} | {source} | `{item.target}` | {'' if item.read_only else 'yes'} |"
        f" {item.why} | {only} |\n"
    )


_MOUNTS, _END_OF_MOUNTS = "<!-- mounts, made by `make pages` -->", "<!-- end of mounts -->"
_BOXES = {
    # name: (x, y, width, text lines, colour)
    "objects": (
        10,
        20,
        190,
        ("objects", "profiles, workloads,", "node configs, uncore"),
        "#e3f2fd",
    ),
    "pods": (10, 120, 190, ("pods + PodResources", "who owns which CPUs"), "#e3f2fd"),
    "machine": (
        10,
        220,
        190,
        ("machine + baseline", "topology, ranges,", "what was there before"),
        "#e3f2fd",
    ),
    "plan": (270, 120, 170, ("plan_node", "kpm_planner, pure"), "#c8e6c9"),
    "value": (510, 120, 150, ("NodePlan", "one value a node"), "#fff9c4"),
    "diff": (730, 120, 150, ("diff", "kpm_applier, pure"), "#c8e6c9"),
    "apply": (950, 120, 170, ("apply, verify", "only what differs"), "#ffccbc"),
    "sysfs": (950, 250, 170, ("sysfs", "of this machine"), "#eeeeee"),
    "explain": (510, 250, 150, ("plan, explain", "on any laptop"), "#eeeeee"),
    "state": (730, 250, 150, ("state file", "baseline, requests"), "#eeeeee"),
}
_ARROWS = (
    ("objects", "plan"),
    ("pods", "plan"),
    ("machine", "plan"),
    ("plan", "value"),
    ("value", "diff"),
    ("diff", "apply"),
    ("apply", "sysfs"),
    ("value", "explain"),
    ("state", "diff"),
)


def data_flow_picture() -> str:
    """The picture of the data flow."""
    parts = [
        (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1140 330" font-family="system-ui,'
            ' sans-serif" role="img" aria-label="Data flow">'
        )
    ]
    parts.append(
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
        ' orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
    )
    parts.append('<rect width="1140" height="330" fill="#fff"/>')
    for start, end in _ARROWS:
        parts.append(_arrow(start, end))
    for x, y, width, lines, colour in _BOXES.values():
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="70" rx="8" fill="{colour}"'
            ' stroke="#555"/>'
        )
        for index, line in enumerate(lines):
            size, weight = (15, 600) if index == 0 else (12, 400)
            top = y + (70 - 18 * len(lines)) // 2 + 14 + 18 * index
            parts.append(
                f'<text x="{x + width / 2:g}" y="{top}" font-size="{size}" font-weight="{weight}"'
                f' text-anchor="middle">{escape(line)}</text>'
            )
    return "".join([*parts, "</svg>\n"])


def _arrow(start: str, end: str) -> str:
    x1, y1, width1, *_ = _BOXES[start]
    x2, y2, width2, *_ = _BOXES[end]
    if x1 + width1 <= x2:
        points = (x1 + width1, y1 + 35, x2 - 2, y2 + 35)
    elif y2 > y1:
        points = (x1 + width1 / 2, y1 + 70, x2 + width2 / 2, y2 - 2)
    else:
        points = (x1 + width1 / 2, y1, x2 + width2 / 2, y2 + 72)
    return (
        '<line x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}" stroke="#555" stroke-width="1.5"'
        ' marker-end="url(#a)"/>'.format(*points)
    )


#: Kind → the example that shows it.
_EXAMPLES = {
    "PowerConfig": "powerconfig",
    "PowerProfile": "powerprofile",
    "PowerWorkload": "shared-workload",
    "Uncore": "uncore",
}


def resources_page() -> str:
    """Every kind with its fields, out of the schemas that are installed."""
    parts = [
        "# Custom resources",
        "",
        (
            "Made by `make pages` out of the definitions in `crds/`; `kubectl explain KIND` says"
            " the same in a terminal. All live in the"
        ),
        "namespace `power-manager` (`intel-power` with the group `power.intel.com`).",
    ]
    for kind in KINDS:
        schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        parts += ["", f"## {kind.name}", "", kind.description]
        if kind.name in _EXAMPLES:
            path = f"examples/example-{_EXAMPLES[kind.name]}.yaml"
            text = (Path(__file__).parents[1] / path).read_text(encoding="utf-8").rstrip()
            parts += ["", "```yaml", text, "```"]
        for side in ("spec", "status"):
            rows = list(_rows(schema["properties"][side], side))
            if rows:
                parts += ["", "| field | type | what |", "|---|---|---|", *rows]
    return "\n".join(parts) + "\n"


def _rows(schema: dict[str, object], path: str) -> Iterator[str]:
    properties = schema.get("properties")
    for name, field in (properties if isinstance(properties, dict) else {}).items():
        place, inner = f"{path}.{name}", field
        while inner.get("type") == "array":
            place, inner = f"{place}[]", inner["items"]
        words = field.get("description", "").replace("|", "\\|")
        yield f"| `{place}` | {_type_name(inner)} | {words} |"
        yield from _rows(inner, place)


def _type_name(schema: dict[str, object]) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or text"
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return f"map to {extra.get('type')}"
    return str(schema.get("type"))


_LOADS = {
    "square wave": square(800_000, 2_400_000, 0.5),
    "ramp": ramp(600_000, 2_600_000, 1.0),
    "noise of 10%": noise(1_800_000, 0.1),
    "packet bursts": bursts(400_000, 3_000_000, 0.25, 0.02),
}


def scaling_picture() -> str:
    """The controller against four loads, with the defaults, as SVG: load in grey, frequency in
    blue, over two seconds.
    """
    low, high, seconds, width, height = 800_000, 3_500_000, 2.0, 960, 150
    policy = scaling_of(CpuScalingPolicy("polling-dpdk"), low, high)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + 90}'
            f' {len(_LOADS) * (height + 40) + 20}" font-family="sans-serif" font-size="13">'
        )
    ]
    parts.append('<rect width="100%" height="100%" fill="#ffffff"/>')
    for row, (name, load) in enumerate(_LOADS.items()):
        top = 30 + row * (height + 40)
        moments = follow(policy, load, seconds)

        def line(values: list[float], colour: str, thick: float, top: int = top) -> str:
            points = " ".join(
                f"{60 + index * width / len(values):.1f},{top + height * (1 - value / high):.1f}"
                for index, value in enumerate(values)
            )
            return (
                f'<polyline points="{points}" fill="none" stroke="{colour}"'
                f' stroke-width="{thick}"/>'
            )

        parts.append(f'<text x="60" y="{top - 8}">{escape(name)}</text>')
        parts += [
            f'<text x="4" y="{top + height * (1 - khz / high) + 4:.0f}">{khz / 1e6:.1f} GHz</text>'
            for khz in (low, high)
        ]
        parts.append(line([moment.load for moment in moments], "#9e9e9e", 1))
        parts.append(line([float(moment.khz) for moment in moments], "#1565c0", 1.8))
    return "\n".join([*parts, "</svg>", ""])


PAGES = {
    "user/scaling.svg": scaling_picture,
    "user/quickstart.svg": quickstart_picture,
    "user/quickstart.html": quickstart_page,
    "user/first-look.svg": first_look_picture,
    "user/data-flow.svg": data_flow_picture,
    "user/doctor.md": doctor_page,
    "user/problems.md": problems_page,
    "user/resources.md": resources_page,
    "user/security.md": security_page,
}


def main() -> None:
    """Write all pages."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, make in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
