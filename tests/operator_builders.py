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
