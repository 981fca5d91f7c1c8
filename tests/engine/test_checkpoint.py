"""A checkpoint's folder: every way in which it can be incomplete or another model's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from glm_engine.checkpoint import Checkpoint
from glm_engine.config import PRESETS
from glm_engine.dimensions import Dimensions
from glm_engine.errors import CheckpointError, ConfigError
from golden_micro import extract_small

QKV = "transformer.layers.1.attention.query_key_value.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return extract_small(tmp_path) / "src"


def shard(source: Path, rank: int) -> Path:
    return source / "49300" / f"mp_rank_{rank:02d}_model_states.pt"


def edit(source: Path, rank: int, change: Callable[[dict[str, Any]], Any]) -> None:
    module = torch.load(shard(source, rank), weights_only=True)["module"]
    change(module)
    torch.save({"module": module}, shard(source, rank))


def refused(source: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Checkpoint(source)


def test_what_the_shapes_tell(source: Path) -> None:
    with Checkpoint(source) as checkpoint:
        assert checkpoint.dimensions == Dimensions(2, 64, 176, 256, 8)
        assert (checkpoint.tensor_parallel_size, checkpoint.bits, checkpoint.iteration) == (8, 16, "49300")


def test_latest_may_end_in_a_newline(source: Path) -> None:
    (source / "latest").write_text("49300\n")
    with Checkpoint(source) as checkpoint:
        assert checkpoint.iteration == "49300"


@pytest.mark.parametrize("text", ["", "..", "../49300", "/etc", "a b"])
def test_latest_names_a_folder_beside_it(source: Path, text: str) -> None:
    (source / "latest").write_text(text)
    refused(source, "expected the name of a folder beside it")


def test_missing_folders(source: Path, tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", r"nowhere/latest: expected a file with the iteration's name, found none")
    (source / "latest").write_text("500")
    refused(source, "`latest` names this folder, but it is not there")
    (source / "500").mkdir()
    refused(source, "found no shard")


def test_a_missing_shard_in_the_middle(source: Path) -> None:
    shard(source, 3).unlink()
    refused(source, r"expected shards 0 to 7; missing mp_rank_03_model_states\.pt")


def test_a_missing_shard_at_the_end_shows_in_the_shapes(source: Path) -> None:
    shard(source, 7).unlink()
    refused(
        source, r"query_key_value\.weight: expected 27\.\d+ rows, because there are 7 shards; found 24 rows, as in a"
    )


def test_a_shard_of_another_degree_among_them(source: Path) -> None:
    edit(source, 5, lambda m: m.update({QKV: torch.zeros(48, 64).half()}))
    refused(source, rf"mp_rank_05.*{QKV}: expected float16 \[24, 64\]; found float16 \[48, 64\]")


def test_a_missing_key(source: Path) -> None:
    edit(source, 2, lambda m: m.pop(QKV))
    refused(source, rf"mp_rank_02.*missing {QKV}")


def test_missing_layers(source: Path) -> None:
    def drop(module: dict[str, Any]) -> None:
        for key in [key for key in module if key.startswith("transformer.layers.1.")]:
            del module[key]

    edit(source, 6, drop)
    refused(source, r"mp_rank_06.*missing transformer\.layers\.1\.[\w.]+, .* and \d+ more")


def test_an_unknown_key(source: Path) -> None:
    edit(source, 0, lambda m: m.update({"transformer.lm_head.weight": torch.zeros(2).half()}))
    refused(source, r"mp_rank_00.*unexpected transformer\.lm_head\.weight")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_another_dtype(source: Path, dtype: torch.dtype) -> None:
    edit(source, 4, lambda m: m.update({QKV: m[QKV].to(dtype)}))
    refused(source, rf"mp_rank_04.*{QKV}: expected float16 \[24, 64\]; found {str(dtype)[6:]} \[24, 64\]")


def test_a_layer_number_out_of_all_proportion(source: Path) -> None:
    edit(source, 0, lambda m: m.update({"transformer.layers.99999999999.input_layernorm.bias": torch.zeros(64).half()}))
    refused(source, r"has a key of layer 99999999999, but \d+ tensors")


def test_no_weights_at_all(source: Path) -> None:
    edit(source, 0, lambda m: m.clear())
    refused(source, r"final_layernorm\.weight: expected a tensor of 1 dimensions; found no such key")


def test_descriptors_do_not_leak(source: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with Checkpoint(source):
        assert descriptors() == before + 8
    edit(source, 7, lambda m: m.pop(QKV))
    refused(source, "missing")
    assert descriptors() == before


@pytest.mark.parametrize(
    ("tp", "message"),
    [
        (3, "does not divide the hidden size"),
        (16, r"does not divide the number of heads \(8\)"),
        (0, "degrees that work: 1, 2, 4, 8$"),
    ],
)
def test_degrees_that_cannot_be(source: Path, tp: int, message: str) -> None:
    with Checkpoint(source) as checkpoint, pytest.raises(ConfigError, match=message):
        checkpoint.dimensions.check_tensor_parallel(tp)


def test_a_preset_is_recognised_by_its_shape() -> None:
    model = PRESETS["glm-130b"]
    shape = [model.num_layers, model.hidden_size, model.inner_hidden_size, model.vocab_size]
    assert Dimensions(*shape, None).detect_model() is model
    assert Dimensions(*shape, 128).detect_model() is model
    with pytest.raises(ConfigError, match=r"none of the presets'.*describe it with --model FILE"):
        Dimensions(*shape, 64).detect_model()


def test_a_description_of_another_model(source: Path) -> None:
    with (
        Checkpoint(source) as checkpoint,
        pytest.raises(ConfigError, match=r"`num_layers` is described as 70, but .* has 2"),
    ):
        checkpoint.dimensions.check_model(PRESETS["glm-130b"], "here")
