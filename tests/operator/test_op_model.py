"""The typed resource: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import pytest

from glm_engine.config import PRESETS as SERVING_PRESETS
from glm_operator.errors import SpecError
from glm_operator.model import PRESETS, parse
from operator_builders import DIMENSIONS, document


def problems(doc: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(doc)
    return [str(problem) for problem in caught.value.problems]


def test_defaults() -> None:
    spec = parse(document()).spec
    assert (spec.precision, spec.backend, spec.replicas, spec.limits.max_batch_size) == ("fp16", "cuda", 1, 16)
    assert spec.max_sequence_length == 2048
    assert spec.tokenizer.path == "ice_text.model"


def test_null_is_absent() -> None:
    assert parse(document() | {"status": None}).spec == parse(document()).spec
    doc = document()
    doc["spec"]["limits"] = None
    assert parse(doc).spec == parse(document()).spec


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        pytest.param("text", ["document: must be a mapping; got str"], id="not a mapping"),
        pytest.param({}, None, id="empty"),
        pytest.param(document(modle=1), ["spec.modle: is not a field; did you mean model?"], id="typo"),
        pytest.param(
            document(limits={"maxBatch": 4}),
            ["spec.limits.maxBatch: is not a field; did you mean maxBatchSize?"],
            id="nested typo",
        ),
        pytest.param(
            document(gpu={"x": 1}), ["spec.gpu.x: is not a field; fields here: resource, memory"], id="no near field"
        ),
        pytest.param(
            document(precision="int3"),
            ["""spec.precision: must be one of 'fp16', 'int8' or 'int4'; got "int3\""""],
            id="precision",
        ),
        pytest.param(
            document(tensorParallelSize="8"),
            ['spec.tensorParallelSize: should be a valid integer; got "8"'],
            id="text for a number",
        ),
        pytest.param(
            document(tensorParallelSize=3),
            [
                "spec.tensorParallelSize: must divide the model's attention heads (96), inner size (32768) and"
                " vocabulary (150528); degrees that work: 1, 2, 4, 8, 16; got 3"
            ],
            id="tp",
        ),
        pytest.param(
            document(limits={"maxSequenceLength": 4096}),
            ["spec.limits.maxSequenceLength: must not exceed the model's 2048; leave it out for the longest; got 4096"],
            id="context",
        ),
        pytest.param(
            document(model={"preset": "glm-sample"}, precision="int4", tensorParallelSize=8),
            [
                "spec.precision: int4 packs two weights into a byte, so hiddenSize and innerHiddenSize must be"
                " multiples of twice tensorParallelSize: take int8, or a smaller tensorParallelSize"
            ],
            id="int4 odd shard",
        ),
        pytest.param(
            document(model={}),
            ["spec.model: give exactly one of preset (glm-130b, glm-sample) and dimensions"],
            id="no model",
        ),
        pytest.param(
            document(checkpoint={"claim": "a", "precision": "int4", "tensorParallelSize": 8}, tensorParallelSize=4),
            [
                "spec.checkpoint: a quantized checkpoint can neither be cut anew nor quantized anew: set precision and"
                " tensorParallelSize to those of checkpoint, or give the fp16 checkpoint"
            ],
            id="quantized source",
        ),
        pytest.param(
            document(backend="cpu", gpu={"memory": "80G"}),
            ["spec.gpu: belongs to backend cuda: leave it out with backend cpu"],
            id="gpu of a cpu",
        ),
        pytest.param(
            document(checkpoint={"claim": "a", "path": "x/../../y"}),
            ["spec.checkpoint.path: must stay inside the volume: no `..`"],
            id="parent folder",
        ),
        pytest.param(
            document(model={"dimensions": DIMENSIONS | {"hiddenSize": 72}}),
            ["spec.model.dimensions.hiddenSize: must be a multiple of twice numAttentionHeads (16); got 72"],
            id="odd head",
        ),
        pytest.param(
            document(pod={"resources": {"limits": {"memory": "many"}}}),
            ['spec.pod.resources.limits.memory: must be a quantity, for example 500m, 2 or 16Gi; got "many"'],
            id="quantity",
        ),
        pytest.param(document(pod={"hostNetwork": True}), ["spec.pod.hostNetwork"], id="overrides are an allow-list"),
    ],
)
def test_refusals(doc: object, expected: list[str] | None) -> None:
    found = problems(doc)
    if expected is None:
        assert {line.split(":")[0] for line in found} >= {"apiVersion", "kind", "metadata", "spec"}
    else:
        assert [line[: len(want)] for line, want in zip(found, expected, strict=True)] == expected


def test_all_problems_at_once() -> None:
    found = problems(document(tensorParallelSize=3, backend="cpu", gpu={}, limits={"maxSequenceLength": 5000}))
    assert len(found) == 3


@pytest.mark.parametrize("name", ["1demo", "Demo", "a" * 54, "a.b", ""])
def test_names_that_services_cannot_have(name: str) -> None:
    doc = document()
    doc["metadata"]["name"] = name
    assert problems(doc)[0].startswith("metadata.name must begin with a letter")


def test_presets_are_those_of_the_serving_side() -> None:
    assert {name: preset.describe() for name, preset in PRESETS.items()} == {
        name: config.to_dict() for name, config in SERVING_PRESETS.items()
    }
