"""A ClusterServiceVersion as the Operator Lifecycle Manager expands it into a namespace.

Of each account a ServiceAccount; of its permissions a Role and a binding in the namespace, of its
clusterPermissions a ClusterRole and a binding; the Deployments; and the definitions of the bundle.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).parents[2]
Object = dict[str, Any]
_RBAC = "rbac.authorization.k8s.io"


def bundle(folder: Path, image: str, agent: str) -> Path:
    """The bundle and what stands beside it, made anew."""
    command = [sys.executable, str(REPO / "deploy/bundle/make.py"), str(folder), image, agent]
    subprocess.run(command, check=True)
    return folder


def expanded(folder: Path, namespace: str) -> list[Object]:
    """The objects that come of a bundle, definitions first."""
    found = [
        yaml.safe_load(path.read_text()) for path in sorted((folder / "bundle/manifests").iterdir())
    ]
    (version,) = [item for item in found if item["kind"] == "ClusterServiceVersion"]
    install = version["spec"]["install"]["spec"]
    made = [item for item in found if item["kind"] == "CustomResourceDefinition"]
    rules = [*install["permissions"], *install["clusterPermissions"]]
    accounts = sorted({item["serviceAccountName"] for item in rules})
    made += [_object("v1", "ServiceAccount", name, namespace) for name in accounts]
    for item in install["permissions"]:
        made += _bound("Role", item, namespace)
    for item in install["clusterPermissions"]:
        made += _bound("ClusterRole", item, namespace)
    for item in install["deployments"]:
        deployment = _object("apps/v1", "Deployment", item["name"], namespace)
        made.append({**deployment, "spec": item["spec"]})
    return made


def _object(version: str, kind: str, name: str, namespace: str | None) -> Object:
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta}


def _bound(kind: str, item: Object, namespace: str) -> list[Object]:
    """A role and its binding."""
    account = item["serviceAccountName"]
    place = namespace if kind == "Role" else None
    name = f"kubernetes-power-manager-{account}"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    role = {**_object(f"{_RBAC}/v1", kind, name, place), "rules": item["rules"]}
    ref = {"apiGroup": _RBAC, "kind": kind, "name": name}
    binding = _object(f"{_RBAC}/v1", f"{kind}Binding", name, place)
    return [role, {**binding, "roleRef": ref, "subjects": [subject]}]


def policies(folder: Path, namespace: str) -> list[Object]:
    """What a person applies beside a bundle, for a namespace of another name."""
    text = (folder / "admission-policies.yaml").read_text()
    text = text.replace("serviceaccount:power-manager:", f"serviceaccount:{namespace}:")
    return list(yaml.safe_load_all(text.replace("!= 'power-manager'", f"!= '{namespace}'")))
