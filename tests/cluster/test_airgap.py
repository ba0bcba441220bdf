"""A site without registry and network installs from the one archive of `make airgap`: what the page
says of it is done on a node, and taken away again.
"""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from kpm import __version__
from tests.charts.helm import CRDS, HELM, MAIN
from tests.charts.releasing import load_release
from tests.cluster import images, story
from tests.cluster.cluster import NAMESPACE, NODE, Cluster
from tests.cluster.steps import wait_for
from tests.cluster.story import BASELINE, OWNED, RESERVED, SHARED, shows

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("no_pods_left")]


def archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `make airgap` makes, with the image of this machine's architecture alone."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    release = load_release(folder)
    release.packages()
    release.charts()
    digest = release.image(images.architecture(), __version__, "localhost")
    release.manifests(f"localhost/{release.NAME}@{digest}")
    release.sums()
    release.airgap(__version__)
    (found,) = folder.glob("*-airgap.tar")
    return found


def test_one_archive_is_all_that_a_node_without_network_needs(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    with tarfile.open(archive(tmp_path / "dist", monkeypatch)) as content:
        content.extractall(site, filter="data")
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=site, check=True)
    assert (site / "docs/user/installing.md").exists()
    (image,) = (site / "images").glob("*.oci.tar")
    cluster.node.import_image(image)
    names = cluster.node.run("ctr", "-n", "k8s.io", "images", "ls", "-q")
    assert f"{images.PRODUCT}:{__version__}" in names.splitlines()

    before = cluster.tree.content()
    helm(cluster, site, f"upgrade --install kpm-crds {CRDS}-{__version__}.tgz -n {NAMESPACE}"
         " --create-namespace --take-ownership")  # fmt: skip
    helm(cluster, site, f"upgrade --install kpm {MAIN}-{__version__}.tgz -n {NAMESPACE}"
         " --set image.pullPolicy=Never,sharedProfile.create=true --take-ownership"
         f" --set-json sharedProfile.reservedCPUs=[{RESERVED}]")  # fmt: skip
    cluster.kubectl("label", "node", NODE, "feature.node.kubernetes.io/power-node=true")
    wait_for("the operator is ready", lambda: story.operator_ready(cluster), 90)
    story.agent_ready(cluster)
    shows(cluster.tree, SHARED, OWNED, 60)

    helm(cluster, site, f"uninstall kpm -n {NAMESPACE} --wait --timeout 4m")
    assert cluster.tree.limits(OWNED) == BASELINE
    assert cluster.tree.content() == before
    helm(cluster, site, f"upgrade kpm-crds {CRDS}-{__version__}.tgz -n {NAMESPACE}"
         " --set keep=false")  # fmt: skip
    helm(cluster, site, f"uninstall kpm-crds -n {NAMESPACE} --wait")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", seconds=150)
    cluster.kubectl("label", "node", NODE, "feature.node.kubernetes.io/power-node-")


def helm(cluster: Cluster, site: Path, line: str) -> None:
    """A command as the page has it, in the folder of the archive."""
    config = f"{cluster.folder}/pki/admin.conf"
    command = [*cluster.network.words(), str(HELM), *line.split(), "--kubeconfig", config]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=site)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
