#!/usr/bin/env python3
"""Checks the manifests in this folder against the schemas of Kubernetes, without a cluster: objects
of the standard API as they are, of others the pods in them.

    pip install kubernetes-validate==1.37.0 && check.py
"""

import sys
from pathlib import Path

import kubernetes_validate
import yaml

VERSION = "1.37"


def pods(node, path=""):
    """(path, template) of every pod template within `node`."""
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{path}.{key}"
            if isinstance(value, dict) and "containers" in value.get("spec", {}):
                yield here, value
            else:
                yield from pods(value, here)


def main():
    checked = 0
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            kind = document["kind"]
            known = document["apiVersion"] in ("v1", "apps/v1")
            found = [("", document)] if known else [
                (where, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"},
                         "spec": pod["spec"]})
                for where, pod in pods(document)
            ]
            if not found:
                sys.exit(f"{path.name}: {kind} has no pods")
            for where, one in found:
                try:
                    kubernetes_validate.validate(one, VERSION, strict=True)
                except Exception as error:
                    sys.exit(f"{path.name}: {kind}{where}: {str(error).splitlines()[0]}")
                checked += 1
    print(f"{checked} objects are as Kubernetes {VERSION} wants them")


main()
