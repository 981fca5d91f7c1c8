"""Documents for the operator's tests: the smallest valid one, and small changes of it."""

from __future__ import annotations

import copy
from typing import Any

BASE: dict[str, Any] = {
    "apiVersion": "serving.glm.io/v1alpha1",
    "kind": "GLMDeployment",
    "metadata": {"name": "demo", "namespace": "team"},
    "spec": {
        "model": {"preset": "glm-130b"},
        "checkpoint": {"claim": "glm-130b"},
        "tensorParallelSize": 8,
    },
}

DIMENSIONS: dict[str, Any] = {
    "numLayers": 2,
    "hiddenSize": 64,
    "numAttentionHeads": 8,
    "innerHiddenSize": 176,
    "vocabSize": 512,
    "numTextTokens": 500,
    "maxSequenceLength": 128,
    "layernormEps": 1e-5,
    "specialIds": {
        name: 500 + i
        for i, name in enumerate(("[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK", "eos"))
    },
}


def document(**spec: Any) -> dict[str, Any]:
    """The base document with fields of its spec replaced; None removes one."""
    result = copy.deepcopy(BASE)
    result["spec"].update(spec)
    result["spec"] = {key: value for key, value in result["spec"].items() if value is not None}
    return result


ANTI_AFFINITY: dict[str, Any] = {
    "preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}
    ]
}

#: Values to try in each field, good and bad; a spec is a good one with up to three of them.
VALUES: dict[str, list[Any]] = {
    "model": [
        {"preset": "glm-sample"},
        {"preset": "other"},
        {},
        {"dimensions": DIMENSIONS},
        {"dimensions": DIMENSIONS | {"hiddenSize": 72}},
        {"dimensions": DIMENSIONS | {"numTextTokens": 513}},
        {"dimensions": DIMENSIONS | {"layernormEps": 1}},
        {"dimensions": DIMENSIONS | {"specialIds": {"eos": 1}}},
        {"preset": "glm-130b", "dimensions": DIMENSIONS},
    ],
    "checkpoint": [
        {},
        {"claim": "A"},
        {"claim": "a", "hostPath": "/a"},
        {"claim": "a", "precision": "int8"},
        {"claim": "a", "precision": "int8", "tensorParallelSize": 4},
        *({"hostPath": path} for path in ("/a", "a", "/a/../b", "/a/..b", "/")),
        *({"claim": "a", "path": path} for path in (".", "a/b", "..", "a/..", "../a", "/a", "a..b", "$(X)", "a\n")),
    ],
    "tensorParallelSize": [0, 1, 2, 3, 4, 8, 16, 17, 1.5, "1"],
    "precision": ["int8", "int4", "int3"],
    "backend": ["cuda", "cpu"],
    "gpu": [{}, {"memory": "80G"}, {"memory": "80GB"}, {"resource": "gpu"}],
    "limits": [{"maxSequenceLength": n} for n in (1, 2, 128, 512, 2048, 2049)] + [{"maxBatchSize": 0}],
    "artifactCache": [
        {"claim": "c", "hostPath": "/c"},
        {"claim": "c", "size": "1Gi"},
        {"size": "1Gi"},
        {"size": "big"},
    ],
    "tokenizer": [{"claim": "c"}, {"hostPath": "/c"}, {"claim": "c", "hostPath": "/c"}, {"path": "a/../b"}],
    "pod": [
        {"resources": {"limits": {"memory": "1Gi", "cpu": 2}}},
        {"resources": {"limits": {"memory": "1GiB"}}},
        {"tolerations": [{"operator": "Exists"}], "affinity": {"podAntiAffinity": ANTI_AFFINITY}},
        {"tolerations": [{"operator": "Exist"}]},
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A=", "value": "1"}]},
        {"terminationGracePeriodSeconds": 5},
    ],
    "auth": [{"secret": "keys"}, {}, {"secret": "keys", "key": "a/b"}],
    "rollout": ["surge", "recreate", "later"],
    "replicas": [0, -1, True],
    "unknown": [1],
}
