"""Holds these manifests against Kubernetes' own schemas, strictly, and the RayCluster against the fields of KubeRay: `make manifests`.

Kubernetes' schemas come with the package kubernetes-validate. KubeRay publishes its own with the operator alone; the fields below are those
of its API reference (ray.io/v1, KubeRay 1.6), and what stands in a pod's template is again Kubernetes'.
"""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

VERSION = "1.37"
WORDS = {"type": "object", "additionalProperties": {"type": "string"}}
FLAG, TEXT, COUNT, ANY = {"type": "boolean"}, {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "object"}


def fields(*needed: str, **known: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with these fields and no others."""
    return {"type": "object", "properties": known, "required": list(needed), "additionalProperties": False}


AUTOSCALER = fields(
    resources=ANY,
    image=TEXT,
    imagePullPolicy=TEXT,
    securityContext=ANY,
    idleTimeoutSeconds=COUNT,
    upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    version={"enum": ["v1", "v2"]},
    env={"type": "array"},
    envFrom={"type": "array"},
    volumeMounts={"type": "array"},
)
HEAD = fields("template", template=ANY, headService=ANY, enableIngress=FLAG, rayStartParams=WORDS, serviceType=TEXT)
WORKERS = fields(
    "groupName",
    "minReplicas",
    "maxReplicas",
    "template",
    groupName={"type": "string", "minLength": 1},
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    numOfHosts=COUNT,
    rayStartParams=WORDS,
    scaleStrategy=ANY,
    suspend=FLAG,
    template=ANY,
)
RAY_CLUSTER = fields(
    "headGroupSpec",
    suspend=FLAG,
    managedBy=TEXT,
    authOptions=fields(mode={"enum": ["disabled", "token"]}, secretName=TEXT, enableK8sTokenAuth=FLAG),
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=WORDS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=ANY,
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)


def check(manifest: dict[str, Any]) -> None:
    """Raises ValidationError of either validator."""
    if manifest["kind"] != "RayCluster":
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        return
    jsonschema.validate(manifest["spec"], RAY_CLUSTER)
    for group in [manifest["spec"]["headGroupSpec"], *manifest["spec"]["workerGroupSpecs"]]:
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **group["template"]}, VERSION, strict=True)


def main() -> None:
    checked = 0
    for file in sorted(Path(__file__).parent.glob("*.yaml")):
        for manifest in yaml.safe_load_all(file.read_text()):
            try:
                check(manifest)
            except (kubernetes_validate.ValidationError, jsonschema.ValidationError) as error:
                raise SystemExit(f"{file.name}, {manifest['kind']} {manifest['metadata']['name']}: {error.message}") from error
            checked += 1
    print(f"{checked} manifests agree with the schemas of Kubernetes {VERSION} and KubeRay's API reference")


if __name__ == "__main__":
    main()
