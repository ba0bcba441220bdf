"""Every page in a real browser, at the width of a phone and of a desk, and on paper: no violation
that axe knows, nothing wider than the screen, nothing on the console, nothing from outside.

Pictures and prints are left in dist/pages, to be looked at.
"""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kpm.cli import power
from kpm.request.machines import MODELS, build_machine
from kpm.ui.server import Server
from kpm.ui.views import Views
from kpm_applier.kernel_model.model import KernelModel
from tests.kpm.cli_rig import kpm
from tests.kpm.test_cluster_plan import cluster, profile_of
from tests.kpm.test_cluster_verbs import GROUP, PLACE
from tests.kpm.test_ui import hostile_cluster
from tests.pages.browser import looked_at
from tests.trees import write_tree

pytestmark = pytest.mark.pages
REPO = Path(__file__).resolve().parents[2]
OUT = REPO / "dist/pages"
HOSTILE = "<img src=x onerror=alert(1)>"
SCENARIOS = ("quickstart", "energy", "mistakes", "hybrid")


def pages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One of each kind, and the hostile ones."""
    made = []

    def page(name: str) -> Path:
        made.append(str(folder / f"{name}.html"))
        return folder / f"{name}.html"

    for name in SCENARIOS:
        scenario = REPO / f"examples/{name}/scenario.yaml"
        kpm("simulate", "-q", scenario, "--html", page(f"simulate-{name}"))
    write_tree(KernelModel(build_machine(MODELS["xeon"])), folder)
    tree = ("--sysfs", folder / "sys", "--state-dir", folder / "state")
    policy = folder / "policy.yaml"
    kpm("init", "--sysfs", folder / "sys", "-o", policy)
    kpm("plan", "-f", policy, *tree, "--html", page("plan"))
    kpm("diff", "-f", policy, *tree, "--html", page("diff"))
    monkeypatch.setattr("kpm.kube.api.connect", lambda *_: cluster(("n1", "n2", HOSTILE)))
    objects = folder / "objects.json"
    items = [
        profile_of("slow", shared=True, pstates={"max": "10%"}),
        profile_of("fast", pstates={"min": "90%", "max": "10%"}),
        profile_of("odd", nodeSelector={"labelSelector": {"matchLabels": {"a": "b<"}}}),
    ]
    objects.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    words = ["plan", "-f", str(objects), "--html", str(page("cluster"))]
    ran = CliRunner().invoke(power, words, prog_name="kubectl power")
    assert (folder / "cluster.html").exists(), ran.output
    return made


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the browser says of all of them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return looked_at(pages(tmp_path_factory.mktemp("pages"), monkeypatch), OUT)


def test_every_page_was_looked_at_in_both_widths(seen: list[dict[str, Any]]) -> None:
    assert len(seen) == 2 * (len(SCENARIOS) + 3)
    assert {item["width"] for item in seen} == {390, 1280}


def test_axe_finds_no_violation(seen: list[dict[str, Any]]) -> None:
    assert {item["name"]: item["violations"] for item in seen if item["violations"]} == {}


def test_nothing_is_wider_than_the_screen(seen: list[dict[str, Any]]) -> None:
    assert {(item["name"], item["width"]): item["over"] for item in seen if item["over"] > 0} == {}


def test_the_console_is_silent_and_nothing_comes_from_outside(seen: list[dict[str, Any]]) -> None:
    assert [(item["name"], item["said"]) for item in seen if item["said"]] == []
    assert [(item["name"], item["outside"]) for item in seen if item["outside"]] == []


def test_every_page_prints(seen: list[dict[str, Any]]) -> None:
    for item in seen:
        assert (OUT / f"{item['name']}.pdf").read_bytes()[:5] == b"%PDF-"


@pytest.fixture(scope="module")
def live() -> list[dict[str, Any]]:
    """The pages of kubectl power ui, of a cluster full of what a script would say."""
    made = Server(lambda root: Views(hostile_cluster(), GROUP, PLACE, root))
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    try:
        return looked_at([made.url, f"{made.url}node/n1", f"{made.url}plan"], OUT)
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def test_the_pages_of_the_ui_are_clean_and_hold_no_script_of_others(
    live: list[dict[str, Any]],
) -> None:
    assert len(live) == 6
    assert [item for item in live if item["violations"] or item["said"] or item["over"] > 0] == []
    own = {item["outside"][0].partition("/style.css")[0] for item in live if item["outside"]}
    assert all(url.startswith(tuple(own)) for item in live for url in item["outside"]), (
        "asks for nothing from elsewhere"
    )
