"""The arithmetic of bytes, against GLM-130B's known sizes and against tensors that were counted one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glm_operator.document import load
from glm_operator.model import PRESETS, parse
from glm_operator.quantity import human, mebibytes, to_number
from glm_operator.sizing import kv_bytes_per_token, nearest_that_fits, sizes, weight_bytes
from glm_operator.summary import summary
from operator_builders import DIMENSIONS, document

SAMPLES = Path(__file__).parents[2] / "manifests/samples"


def spec_of(**spec: Any) -> Any:
    return parse(document(**spec)).spec


@pytest.mark.parametrize(("precision", "gigabytes"), [("fp16", 257.4), ("int8", 130.6), ("int4", 67.2)])
def test_glm_130b(precision: str, gigabytes: float) -> None:
    assert round(weight_bytes(PRESETS["glm-130b"], 1, precision) / 1e9, 1) == gigabytes
    assert kv_bytes_per_token(PRESETS["glm-130b"], 1, "cuda") == 3_440_640


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("tp", [1, 2, 4])
def test_tensor_by_tensor(tp: int, precision: str) -> None:
    """Shapes of one rank: hidden 64, inner 176, vocabulary 512, 2 layers."""
    linear = [(192 // tp, 64), (64, 64 // tp), (352 // tp, 64), (64, 176 // tp)]
    fp16 = 2 * (512 // tp) * 64 + 2 * 2 * 64  # embedding, final norm
    fp16 += 2 * (2 * 4 * 64)  # two norms a layer
    fp16 += 2 * 2 * (192 // tp + 64 + 352 // tp + 64)  # biases
    weights = 2 * sum(rows * columns for rows, columns in linear)
    scales = 2 * 2 * sum(rows for rows, _ in linear)
    expected = {"fp16": fp16 + 2 * weights, "int8": fp16 + weights + scales, "int4": fp16 + weights // 2 + scales}
    model = spec_of(model={"dimensions": DIMENSIONS}).model.resolve()
    assert weight_bytes(model, tp, precision) == expected[precision]


@pytest.mark.parametrize(
    ("spec", "fits", "remedy"),
    [
        pytest.param({"gpu": {}}, None, None, id="unknown memory"),
        pytest.param({"gpu": {"memory": "80G"}, "tensorParallelSize": 8}, True, None, id="fp16 on 8"),
        pytest.param(
            {"gpu": {"memory": "80G"}, "tensorParallelSize": 1, "precision": "int4"},
            False,
            "limits.maxBatchSize: 1",
            id="fewer sequences",
        ),
        pytest.param(
            {"gpu": {"memory": "80G"}, "tensorParallelSize": 2}, False, "tensorParallelSize: 8", id="more GPUs"
        ),
        pytest.param({"gpu": {"memory": "1G"}}, False, None, id="hopeless"),
    ],
)
def test_fits(spec: dict[str, Any], fits: bool | None, remedy: str | None) -> None:
    parsed = spec_of(**spec)
    assert sizes(parsed).fits is fits
    if not fits:
        assert nearest_that_fits(parsed) == remedy


def test_the_remedy_is_shown() -> None:
    rows = dict(summary(parse(document(gpu={"memory": "80G"}, tensorParallelSize=2))))
    assert rows["runs on"].startswith("2 GPUs: DOES NOT FIT, ")
    assert rows["runs on"].endswith("what would fit: tensorParallelSize: 8")


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_samples_fit(path: Path) -> None:
    deployment = load(str(path))
    assert sizes(deployment.spec).fits is (True if deployment.spec.backend == "cuda" else None)


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("500m", 0.5), ("1.5k", 1500), ("2Ki", 2048), ("80G", 80e9), ("1Pi", 2**50)]
)
def test_quantities(text: str, value: float) -> None:
    assert to_number(text) == value


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "-1", "1e3", "Gi", "1GB"])
def test_not_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        to_number(text)


def test_words_for_bytes() -> None:
    assert [human(n) for n in (0, 999, 1000, 99_950, 999_499, 999_500, 67e9, 2e15)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "100 kB",
        "999 kB",
        "1.0 MB",
        "67.0 GB",
        "2000.0 TB",
    ]
    assert mebibytes(1) == "1Mi"
    assert mebibytes(2**20) == "1Mi"
