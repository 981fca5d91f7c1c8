"""`--format sat` against the original's convert_tp.py: every tensor's bytes, at every degree and precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from glm_engine.checkpoint import Checkpoint
from glm_engine.convert_sat import write_checkpoint
from glm_engine.progress import Progress
from glm_engine.reshard import Target
from golden_micro import GOLDEN, describe_checkpoint, extract_small, manifest

TARGETS = [(tp, bits) for tp in (1, 2, 4, 8) for bits in (16, 8, 4)]
NAMES = {16: "fp16", 8: "int8", 4: "int4"}
needs_golden = pytest.mark.skipif(GOLDEN is None, reason="GLM_GOLDEN names no folder of golden cases")


def convert(source: Path, output: Path, tp: int, bits: int) -> list[dict[str, list[object]]]:
    with Checkpoint(source) as checkpoint:
        write_checkpoint(checkpoint, Target(tp, bits), output, Progress())
    return describe_checkpoint(output)


@pytest.fixture(scope="module")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extract_small(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize(("tp", "bits"), TARGETS)
def test_writes_the_bytes_of_the_original(micro: Path, tmp_path: Path, tp: int, bits: int) -> None:
    expected = manifest(micro)[f"tp{tp}_{NAMES[bits]}"]
    found = convert(micro / "src", tmp_path, tp, bits)
    assert found == expected
    assert [list(shard) for shard in found] == [list(shard) for shard in expected], "keys in the original's order"
    assert (tmp_path / "latest").read_bytes() == b"49300"


@pytest.mark.parametrize("source_tp", [1, 2, 4])
@pytest.mark.parametrize(("tp", "bits"), [(1, 4), (2, 16), (4, 8), (8, 4)])
def test_the_source_degree_does_not_matter(micro: Path, tmp_path: Path, source_tp: int, tp: int, bits: int) -> None:
    convert(micro / "src", tmp_path / "between", source_tp, 16)
    assert convert(tmp_path / "between", tmp_path / "out", tp, bits) == manifest(micro)[f"tp{tp}_{NAMES[bits]}"]


@needs_golden
@pytest.mark.parametrize(("tp", "bits"), TARGETS)
def test_tiny(tmp_path: Path, tp: int, bits: int) -> None:
    assert GOLDEN is not None
    case = GOLDEN / "tiny"
    assert convert(case / "src", tmp_path, tp, bits) == manifest(case)[f"tp{tp}_{NAMES[bits]}"]


@needs_golden
@pytest.mark.parametrize("source_tp", [1, 2, 4, 8])
@pytest.mark.parametrize(("tp", "bits"), TARGETS)
def test_the_originals_own_results_as_sources(tmp_path: Path, source_tp: int, tp: int, bits: int) -> None:
    assert GOLDEN is not None
    case = GOLDEN / "micro"
    found = convert(case / f"tp{source_tp}_fp16", tmp_path, tp, bits)
    assert found == manifest(case)[f"tp{tp}_{NAMES[bits]}"]


@needs_golden
@pytest.mark.parametrize(("tp", "bits"), [(tp, bits) for tp, bits in TARGETS if bits != 16])
def test_a_quantized_checkpoint_of_the_original_passes_through(tmp_path: Path, tp: int, bits: int) -> None:
    assert GOLDEN is not None
    name = f"tp{tp}_{NAMES[bits]}"
    assert convert(GOLDEN / "micro" / name, tmp_path, tp, bits) == manifest(GOLDEN / "micro")[name]
