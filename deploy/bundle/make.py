"""Write the OLM bundle, its catalog, and what a bundle cannot carry (make bundle).

    python deploy/bundle/make.py FOLDER IMAGE [AGENT_IMAGE]

Accounts, rights, Deployment and definitions are those of deploy/base and crds/, in the form that
the Operator Lifecycle Manager takes. It makes no ValidatingAdmissionPolicy and no
SecurityContextConstraints, so those are files beside the bundle. What a value of a kind means is
said by the definitions.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[1]
REPO = DEPLOY.parent
NAME, NAMESPACE = "kubernetes-power-manager", "power-manager"
OPERATOR = "power-manager-operator"
#: Where the bundle's parts are in its image.
_LAYOUT = {"manifests": "manifests/", "metadata": "metadata/"}
#: Shown with each kind, of the examples.
_EXAMPLES = (
    "powerconfig",
    "powerprofile",
    "shared-workload",
    "powernodeconfig",
    "uncore",
    "powercap",
)
Object = dict[str, Any]


def version() -> str:
    found = re.search(r'__version__ = "(.+)"', (REPO / "kpm/__init__.py").read_text())
    assert found
    return found[1]


def channel() -> str:
    """Minor releases have a channel each, named as their versions begin."""
    return f"v{'.'.join(version().split('.')[:2])}"


def manifests(*names: str) -> list[Object]:
    """The objects of files in deploy/."""
    texts = ((DEPLOY / name).read_text() for name in names)
    return [item for text in texts for item in yaml.safe_load_all(text) if item]


def definitions() -> list[tuple[str, Object]]:
    """File name and content of each custom resource definition."""
    paths = sorted((REPO / "crds").glob("power.*.yaml"))
    return [(path.name, yaml.safe_load(path.read_text())) for path in paths]


def rights(kind: str) -> list[Object]:
    """Rules by account, of all roles of a kind that deploy/base binds."""
    found = manifests("base/rbac-operator.yaml", "base/rbac-agent.yaml")
    roles = {item["metadata"]["name"]: item["rules"] for item in found if item["kind"] == kind}
    accounts: dict[str, list[Object]] = {}
    for binding in found:
        if binding["kind"] == f"{kind}Binding":
            for subject in binding["subjects"]:
                rules = accounts.setdefault(subject["name"], [])
                rules += roles[binding["roleRef"]["name"]]
    return [{"serviceAccountName": name, "rules": rules} for name, rules in accounts.items()]


def deployments(image: str, agent: str) -> list[Object]:
    """The operator's, with the images."""
    (item,) = manifests("base/operator.yaml")
    (container,) = item["spec"]["template"]["spec"]["containers"]
    container["image"] = image
    container["env"][0] = {"name": "AGENT_IMAGE", "value": agent}
    return [{"name": item["metadata"]["name"], "spec": item["spec"]}]


def owned() -> list[Object]:
    """What is said of each kind, out of its definition."""
    found = []
    for _, item in definitions():
        spec, (one,) = item["spec"], item["spec"]["versions"]
        schema = one["schema"]["openAPIV3Schema"]
        descriptors = {
            f"{part}Descriptors": [
                {"path": name, "displayName": _words(name), "description": field["description"]}
                for name, field in (schema["properties"].get(part) or {})
                .get("properties", {})
                .items()
                if field.get("description")
            ]
            for part in ("spec", "status")
        }
        found.append(
            {
                "name": item["metadata"]["name"],
                "version": one["name"],
                "kind": spec["names"]["kind"],
                "displayName": _words(spec["names"]["kind"]),
                "description": schema["description"],
                **{key: value for key, value in descriptors.items() if value},
            }
        )
    return found


def _words(name: str) -> str:
    """A name of many words, as people write it."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return spaced[:1].upper() + spaced[1:]


def examples() -> list[Object]:
    """An object of each kind that users write."""
    texts = ((REPO / f"examples/example-{name}.yaml").read_text() for name in _EXAMPLES)
    written = [item for text in texts for item in yaml.safe_load_all(text)]
    return [*written, *(_made(kind) for kind in ("PowerNode", "PowerNodeState"))]


def _made(kind: str) -> Object:
    """An object as the operator makes it for a node."""
    meta = {"name": "worker-1", "namespace": NAMESPACE}
    spec = {"nodeName": "worker-1"}
    return {"apiVersion": "power.openshift.io/v1", "kind": kind, "metadata": meta, "spec": spec}


def service_version(image: str, agent: str) -> Object:
    """The ClusterServiceVersion."""
    shown = examples()
    images = {"operator": image, "agent": agent}
    return {
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {
            "name": f"{NAME}.v{version()}",
            "namespace": NAMESPACE,
            "annotations": {
                "alm-examples": json.dumps(shown, indent=1),
                "operatorframework.io/initialization-resource": json.dumps(shown[0]),
                "operatorframework.io/suggested-namespace": NAMESPACE,
                "operatorframework.io/cluster-monitoring": "true",
                "olm.skipRange": f"<{version()}",
                "capabilities": "Deep Insights",
                "categories": "Monitoring",
                "containerImage": image,
                "description": "CPU power of nodes, declared by custom resources",
                "repository": "https://example.com/kubernetes-power-manager",
                "support": "The maintainers of kubernetes-power-manager",
                "createdAt": "2026-01-01T00:00:00Z",
                "features.operators.openshift.io/disconnected": "true",
            },
            "labels": {f"operatorframework.io/arch.{arch}": "supported" for arch in ARCHES},
        },
        "spec": {
            "displayName": "Kubernetes Power Manager",
            "description": (Path(__file__).parent / "description.md").read_text(),
            "version": version(),
            "maturity": "beta",
            "minKubeVersion": "1.30.0",
            "keywords": ["power", "energy", "cpufreq", "cstates", "rapl", "dpdk"],
            "maintainers": [{"name": "The maintainers", "email": "maintainers@example.com"}],
            "provider": {"name": "kubernetes-power-manager"},
            "links": [{"name": "Source", "url": "https://example.com/kubernetes-power-manager"}],
            "icon": [
                {
                    "base64data": base64.b64encode(
                        (Path(__file__).parent / "icon.svg").read_bytes()
                    ).decode(),
                    "mediatype": "image/svg+xml",
                }
            ],
            "installModes": [
                {"type": mode, "supported": mode == "OwnNamespace"}
                for mode in ("OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces")
            ],
            "customresourcedefinitions": {"owned": owned()},
            "relatedImages": [{"name": name, "image": found} for name, found in images.items()],
            "install": {
                "strategy": "deployment",
                "spec": {
                    "permissions": rights("Role"),
                    "clusterPermissions": rights("ClusterRole"),
                    "deployments": deployments(image, agent),
                },
            },
        },
    }


ARCHES = ("amd64", "arm64")


def annotations() -> dict[str, str]:
    """What a catalog reads of a bundle."""
    prefix = "operators.operatorframework.io.bundle"
    layout = {f"{prefix}.{name}.v1": folder for name, folder in _LAYOUT.items()}
    return {
        f"{prefix}.mediatype.v1": "registry+v1",
        **layout,
        f"{prefix}.package.v1": NAME,
        f"{prefix}.channels.v1": channel(),
        f"{prefix}.channel.default.v1": channel(),
    }


def catalog(bundle_image: str, images: list[str]) -> list[Object]:
    """The file-based catalog of this one version; a later one is appended to its channel."""
    name = f"{NAME}.v{version()}"
    return [
        {"schema": "olm.package", "name": NAME, "defaultChannel": channel()},
        {
            "schema": "olm.channel",
            "package": NAME,
            "name": channel(),
            "entries": [{"name": name, "skipRange": f"<{version()}"}],
        },
        {
            "schema": "olm.bundle",
            "name": name,
            "package": NAME,
            "image": bundle_image,
            "relatedImages": [{"name": "", "image": image} for image in (bundle_image, *images)],
            "properties": [
                {"type": "olm.package", "value": {"packageName": NAME, "version": version()}},
                *(
                    {
                        "type": "olm.gvk",
                        "value": {
                            "group": item["spec"]["group"],
                            "kind": item["spec"]["names"]["kind"],
                            "version": "v1",
                        },
                    }
                    for _, item in definitions()
                ),
            ],
        },
    ]


def policies(agent: str) -> list[Object]:
    """The admission policies, which name the image of the agents."""
    names = ("admission", "admission-operator", "admission-telemetry")
    found = manifests(*(f"base/{name}.yaml" for name in names))
    for item in found:
        for variable in item["spec"].get("variables") or ():
            if variable["name"] == "images":
                variable["expression"] = f"['{agent}']"
    return found


def files(image: str, agent: str) -> dict[str, str]:
    """Name → content of everything."""
    dump = lambda item: yaml.safe_dump(item, sort_keys=False, width=120)  # noqa: E731
    made = {f"bundle/manifests/{name}": dump(item) for name, item in definitions()}
    csv = dump(service_version(image, agent))
    made[f"bundle/manifests/{NAME}.clusterserviceversion.yaml"] = csv
    made["bundle/metadata/annotations.yaml"] = dump({"annotations": annotations()})
    labels = "".join(f"LABEL {key}={value}\n" for key, value in annotations().items())
    copies = "".join(f"COPY {name} /{name}/\n" for name in _LAYOUT)
    made["bundle/bundle.Containerfile"] = f"FROM scratch\n{labels}{copies}"
    bundle_image = f"{image.partition('@')[0].rpartition(':')[0] or NAME}-bundle:v{version()}"
    found = catalog(bundle_image, sorted({image, agent}))
    made["catalog/catalog.yaml"] = yaml.safe_dump_all(found, sort_keys=False)
    made["admission-policies.yaml"] = yaml.safe_dump_all(policies(agent), sort_keys=False)
    made["openshift-scc.yaml"] = (DEPLOY / "overlays/openshift/scc.yaml").read_text()
    return made


if __name__ == "__main__":
    target, image, *more = sys.argv[1:]
    for name, text in files(image, more[0] if more else image).items():
        path = Path(target) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
