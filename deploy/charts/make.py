"""Write the parts of the charts that have a source elsewhere (make charts).

    python deploy/charts/make.py [FOLDER]      default: this folder

The manifests of deploy/ are the source of every object that chart and kustomize have in common: the
templates are their text, in which `SWITCHES` says what a value decides. What only the chart has
(operator, PowerConfig, hooks, notes) is written by hand beside them. A README is the comments of
values.yaml. The version is that of the program.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DEPLOY = Path(__file__).parents[1]
REPO = DEPLOY.parent
GROUPS = {"power.openshift.io": REPO / "crds", "power.intel.com": REPO / "crds" / "intel"}
MAIN, CRDS = "kubernetes-power-manager", "kubernetes-power-manager-crds"
_HEAD = "{{- /* Written by make charts; %s is the source. */ -}}\n"
_NAMESPACE = "{{ .Release.Namespace }}"
_LABELS = '{{ include "power-manager.labels" . }}'
#: Text of a manifest → what the chart has in its place.
SWITCHES = (
    (r"namespace: power-manager(?=[},\n])", f"namespace: {_NAMESPACE}"),
    (r"system:serviceaccount:power-manager:", f"system:serviceaccount:{_NAMESPACE}:"),
    (r"request\.namespace != 'power-manager'", f"request.namespace != '{_NAMESPACE}'"),
    (r"power\.openshift\.io", "{{ .Values.group }}"),
    (
        r"\{name: images, expression: .*\}",
        '{name: images, expression: {{ include "power-manager.allowed" . | quote }}}',
    ),
    (
        r'\{name: privileged, expression: "false"\}',
        '{name: privileged, expression: {{ include "power-manager.privileged" . | quote }}}',
    ),
    (r"(?m)^metadata: \{", f"metadata: {{labels: {{ {_LABELS} }}, "),
    (r"(?m)^(  labels: )\{(.*)\}$", rf"\1{{ \2, {_LABELS} }}"),
    (r"(?m)^(metadata:\n(?:  (?!labels).*\n)+)(?!  )", rf"\1  labels: {{ {_LABELS} }}\n"),
    (r"name: prometheus-k8s, namespace: monitoring", '{{ include "power-manager.scraper" . }}'),
)
#: Template → its sources, and the value that asks for it, if not always.
TEMPLATES = {
    "accounts": (("base/accounts.yaml",), None),
    "rbac-operator": (("base/rbac-operator.yaml",), None),
    "rbac-agent": (("base/rbac-agent.yaml",), None),
    "admission-agent": (("base/admission.yaml",), None),
    "admission-operator": (("base/admission-operator.yaml",), None),
    "admission-telemetry": (("base/admission-telemetry.yaml",), None),
    "networkpolicy": (("base/networkpolicy.yaml",), ".Values.networkPolicy.enabled"),
    "scc": (("overlays/openshift/scc.yaml",), ".Values.openshift"),
    "metrics-token": (("metrics-token/rbac.yaml",), ".Values.metrics.tokens"),
    "monitoring": (
        ("monitoring/monitors.yaml", "monitoring/rbac.yaml"),
        ".Values.monitoring.enabled",
    ),
}


def template(names: tuple[str, ...], asked: str | None) -> str:
    """Manifests as a template. asked: the value without which there is nothing."""
    text = "---\n".join((DEPLOY / name).read_text() for name in names)
    assert "{{" not in text, f"{names}: a template would read this"
    for pattern, words in SWITCHES:
        text = re.sub(pattern, words, text)
    head = _HEAD % " and ".join(f"deploy/{name}" for name in names)
    return head + (f"{{{{- if {asked} }}}}\n{text}{{{{- end }}}}\n" if asked else text)


def version() -> str:
    """The program's, as a chart has it."""
    found = re.search(r'__version__ = "(.+)"', (REPO / "kpm/__init__.py").read_text())
    assert found
    return found[1]


def versioned(chart: Path) -> str:
    """Chart.yaml with the version of the program and the icon of the project."""
    text = (chart / "Chart.yaml").read_text()
    text = re.sub(r"(?m)^version: .*", f"version: {version()}", text)
    icon = base64.b64encode((DEPLOY / "bundle/icon.svg").read_bytes()).decode()
    text = re.sub(r"(?m)^icon: .*", f"icon: data:image/svg+xml;base64,{icon}", text)
    return re.sub(r"(?m)^appVersion: .*", f'appVersion: "{version()}"', text)


def values(text: str) -> Iterator[tuple[str, str, str]]:
    """Path, default and meaning of each value that has a comment, in order."""
    path: list[tuple[int, str]] = []
    said: list[str] = []
    for line in text.splitlines():
        words = line.strip()
        found = re.match(r"( *)([A-Za-z0-9_.-]+):(?: (.*))?$", line)
        if words.startswith("#"):
            said.append(words.lstrip("# "))
        elif found:
            depth = len(found[1])
            path = [item for item in path if item[0] < depth] + [(depth, found[2])]
            if said:
                yield ".".join(name for _, name in path), found[3] or "", " ".join(said)
            said = []
        else:
            said = []


def readme(chart: Path) -> str:
    """The hand-written beginning of a README, and the table of values."""
    rows = "".join(
        f"| `{path}` | {f'`{default}`' if default else ''} | {text} |\n"
        for path, default, text in values((chart / "values.yaml").read_text())
    )
    head = (chart / "README.head.md").read_text()
    return f"{head}\n## Values\n\n| value | default | what |\n|---|---|---|\n{rows}"


def files() -> dict[str, str]:
    """Name below this folder → content."""
    here = Path(__file__).parent
    made = {
        f"{MAIN}/templates/{name}.yaml": template(*source) for name, source in TEMPLATES.items()
    }
    for path in sorted((DEPLOY / "monitoring/dashboards").glob("*.json")):
        made[f"{MAIN}/dashboards/{path.name}"] = path.read_text()
    made[f"{MAIN}/files/rules.yaml"] = (DEPLOY / "monitoring/rules.yaml").read_text()
    for group, folder in GROUPS.items():
        for path in sorted(folder.glob("power.*.yaml")):
            made[f"{CRDS}/files/{group}/{path.name}"] = path.read_text()
    for chart in (MAIN, CRDS):
        made[f"{chart}/Chart.yaml"] = versioned(here / chart)
        made[f"{chart}/README.md"] = readme(here / chart)
    return made


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, text in files().items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
