"""Artifacts: what is in them, when they are reused, and how a conversion goes on after whatever stopped it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from glm_engine import convert
from glm_engine.artifact import Artifact
from glm_engine.checkpoint import Checkpoint, is_rotary
from glm_engine.config import PRESETS
from glm_engine.convert import make_artifact, plan_artifact
from glm_engine.convert_sat import write_checkpoint
from glm_engine.errors import CheckpointError, ConfigError, StorageError
from glm_engine.fake_checkpoint import write_fake_checkpoint
from glm_engine.progress import Progress
from glm_engine.reshard import Target
from golden_micro import describe, describe_checkpoint, extract_small, manifest
from micro_case import MicroCase

BITS = {"fp16": 16, "int8": 8, "int4": 4}


@pytest.fixture
def micro(tmp_path: Path) -> MicroCase:
    return MicroCase(extract_small(tmp_path))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


class Recorder(Progress):
    """Remembers what it was told; ``at`` is called with each shard that begins."""

    def __init__(self, at: Callable[[int], None] = lambda index: None) -> None:
        self.shards: list[int] = []
        self.total = self.done = 0
        self.phases: list[str] = []
        self._at = at

    def begin(self, phase: str, bytes_total: int, shards: int, bytes_done: int = 0) -> None:
        self.phases.append(phase)
        self.total, self.done = bytes_total, bytes_done

    def shard(self, index: int) -> None:
        self.shards.append(index)
        self._at(index)

    def advance(self, count: int) -> None:
        self.done += count

    def end(self, phase: str) -> None:
        self.phases.append(phase)


def make(micro: MicroCase, output: Path, tp: int = 2, bits: int = 16, progress: Progress | None = None) -> Artifact:
    with Checkpoint(micro.source) as checkpoint:
        return make_artifact(plan_artifact(checkpoint, Target(tp, bits), micro.model, output), progress or Progress())


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
@pytest.mark.parametrize("precision", list(BITS))
def test_an_artifact_holds_what_the_original_would_write(
    micro: MicroCase, output: Path, tp: int, precision: str
) -> None:
    artifact = make(micro, output, tp, BITS[precision])
    expected = manifest(micro.folder)[f"tp{tp}_{precision}"]
    assert len(artifact.rank_files) == tp
    for path, shard in zip(artifact.rank_files, expected, strict=True):
        with safe_open(path, "pt") as file:
            found = {f"transformer.{key}": describe(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118 - not a dict
        assert found == {key: value for key, value in shard.items() if not is_rotary(key)}
    assert artifact.damaged() == []
    assert (artifact.model, artifact.tensor_parallel_size, artifact.precision) == (micro.model, tp, precision)
    assert (artifact.source.iteration, artifact.source.tensor_parallel_size) == ("49300", 8)
    assert [path.name for path in output.iterdir()] == [artifact.digest]


def test_data_starts_at_multiples_of_64(micro: MicroCase, output: Path) -> None:
    for path in make(micro, output, 8, 4).rank_files:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        tensors = {k: v for k, v in json.loads(data[8 : 8 + size]).items() if k != "__metadata__"}
        assert (8 + size) % 64 == 0
        for key, tensor in tensors.items():
            begin, end = tensor["data_offsets"]
            assert begin % min((end - begin) & -(end - begin), 64) == 0, key


def test_the_digest_is_that_of_the_content(micro: MicroCase, output: Path, tmp_path: Path) -> None:
    first = make(micro, output)
    copy = extract_small(tmp_path / "copy")
    (copy / "src" / "latest").write_text("49300\n")
    assert make(MicroCase(copy), tmp_path / "elsewhere").digest == first.digest
    assert len({make(micro, output, tp, bits).digest for tp in (1, 2) for bits in (16, 4)} | {first.digest}) == 4


def test_the_digest_changes_with_a_single_weight(micro: MicroCase, output: Path) -> None:
    first = make(micro, output)
    path = micro.source / "49300" / "mp_rank_03_model_states.pt"
    module = torch.load(path, weights_only=True)["module"]
    module["transformer.layers.0.mlp.dense_4h_to_h.weight"][0, 0] += 1
    torch.save({"module": module}, path)
    assert make(micro, output).digest != first.digest


def test_what_is_there_is_reused(micro: MicroCase, output: Path) -> None:
    first = make(micro, output)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    again = Recorder()
    assert make(micro, output, progress=again) == first
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    assert again.phases == ["reused"]


@pytest.mark.parametrize("damage", ["manifest.json", "rank_00.safetensors", "rank_01.safetensors"])
@pytest.mark.parametrize("how", ["removed", "cut"])
def test_an_artifact_that_lost_something_is_made_anew(micro: MicroCase, output: Path, damage: str, how: str) -> None:
    first = make(micro, output)
    path = first.path / damage
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-100])
    assert make(micro, output) == first
    assert first.damaged() == []


def test_it_goes_on_at_the_first_missing_shard(micro: MicroCase, output: Path) -> None:
    def stop(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(micro, output, 4, progress=Recorder(stop))
    (partial,) = output.iterdir()
    assert partial.name.endswith(".partial")
    kept = {rank: (partial / convert.rank_file(rank)).stat().st_ino for rank in (0, 1)}
    second = Recorder()
    artifact = make(micro, output, 4, progress=second)
    assert second.shards == [2, 3]
    assert second.done == second.total
    assert {rank: artifact.rank_files[rank].stat().st_ino for rank in (0, 1)} == kept
    assert artifact.damaged() == []
    assert sorted(path.name for path in artifact.path.iterdir()) == [
        "manifest.json",
        *(p.name for p in artifact.rank_files),
    ]


def test_a_source_that_changes_meanwhile_gives_no_artifact(micro: MicroCase, output: Path) -> None:
    def change(index: int) -> None:
        (micro.source / "49300" / "mp_rank_00_model_states.pt").touch()

    with pytest.raises(CheckpointError, match=r"mp_rank_00.*was changed while it was read"):
        make(micro, output, progress=Recorder(change))
    assert [path.suffix for path in output.iterdir()] == [".partial"]


def test_a_flipped_bit_gives_no_artifact_and_the_mended_file_heals(micro: MicroCase, output: Path) -> None:
    path = micro.source / "49300" / "mp_rank_06_model_states.pt"
    whole = path.read_bytes()
    weights = torch.load(path, weights_only=True)["module"]["transformer.layers.1.attention.dense.weight"]
    damaged = bytearray(whole)
    damaged[whole.index(weights.numpy().tobytes()) + 500] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(
        CheckpointError, match=r"mp_rank_06.*layers\.1\.attention\.dense\.weight \(record data/\d+\) is damaged"
    ):
        make(micro, output)
    assert [p.suffix for p in output.iterdir()] == [".partial"]
    path.write_bytes(whole)
    assert make(micro, output).damaged() == []
    assert [p.suffix for p in output.iterdir()] == [""]


def test_a_disk_that_cannot_hold_it_is_refused_before_anything_is_written(
    micro: MicroCase, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glm_engine.fsio.free_bytes", lambda folder: 100_000)
    message = r"needs [\d.]+ MB \(\d+ bytes\) of free space, has 100\.0 kB \(100000 bytes\); free .* more"
    with pytest.raises(StorageError, match=message):
        make(micro, output)
    assert not [path for path in output.rglob("*") if path.is_file()]
    with Checkpoint(micro.source) as checkpoint, pytest.raises(StorageError, match=message):
        write_checkpoint(checkpoint, Target(2, 16), output / "sat", Progress())
    assert not [path for path in (output / "sat").rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written(micro: MicroCase, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written: Not a directory"):
        make(micro, tmp_path / "file" / "artifacts")


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_checkpoints_pass_through_and_nothing_else(
    micro: MicroCase, output: Path, tmp_path: Path, bits: int
) -> None:
    with Checkpoint(micro.source) as checkpoint:
        write_checkpoint(checkpoint, Target(2, bits), tmp_path / "sat", Progress())
    with Checkpoint(tmp_path / "sat") as quantized:
        assert quantized.bits == bits
        direct = make(micro, output, 2, bits)
        through = make_artifact(plan_artifact(quantized, Target(2, bits), micro.model, output), Progress())
        assert [rank.blake3 for rank in through.ranks] == [rank.blake3 for rank in direct.ranks]
        for tp, other in ((4, bits), (2, 16), (2, 12 - bits)):
            works = rf"already quantized to INT{bits} for 2 shards.*--target-tp 2 --quantization-bit-width {bits}"
            with pytest.raises(ConfigError, match=works):
                plan_artifact(quantized, Target(tp, other), micro.model, output)


def test_int4_cannot_split_a_byte(micro: MicroCase, tmp_path: Path) -> None:
    module = {}
    for key, tensor in torch.load(micro.source / "49300/mp_rank_00_model_states.pt", weights_only=True)[
        "module"
    ].items():
        rows = 44 if "h_to_4h" in key and "4h_to_h" not in key else len(tensor)  # inner size 22 in one shard
        module[key] = tensor[:rows]
    for name in ("attention.query_key_value", "attention.dense"):
        for layer in range(2):
            rows, columns = (192, 64) if "query" in name else (64, 64)
            module[f"transformer.layers.{layer}.{name}.weight"] = torch.zeros(rows, columns).half()
            module[f"transformer.layers.{layer}.attention.query_key_value.bias"] = torch.zeros(192).half()
    folder = tmp_path / "narrow"
    (folder / "1").mkdir(parents=True)
    (folder / "latest").write_text("1")
    torch.save({"module": module}, folder / "1" / "mp_rank_00_model_states.pt")
    with Checkpoint(folder) as checkpoint:
        write_checkpoint(checkpoint, Target(2, 8), tmp_path / "int8", Progress())
        with pytest.raises(ConfigError, match=r"inner size 22 over 2 shards is odd \(11\); use a smaller --target-tp"):
            write_checkpoint(checkpoint, Target(2, 4), tmp_path / "int4", Progress())


def test_sat_refuses_to_mix_degrees_and_to_overwrite_its_source(micro: MicroCase, tmp_path: Path) -> None:
    with Checkpoint(micro.source) as checkpoint:
        with pytest.raises(ConfigError, match="is the input folder"):
            write_checkpoint(checkpoint, Target(2, 16), micro.source, Progress())
        write_checkpoint(checkpoint, Target(4, 16), tmp_path / "out", Progress())
        with pytest.raises(ConfigError, match=r"holds mp_rank_02_model_states\.pt, a shard of another degree"):
            write_checkpoint(checkpoint, Target(2, 16), tmp_path / "out", Progress())
        write_checkpoint(checkpoint, Target(4, 8), tmp_path / "out", Progress())
    with Checkpoint(tmp_path / "out") as again:
        assert (again.tensor_parallel_size, again.bits) == (4, 8)


def test_sat_has_no_latest_until_it_is_whole(micro: MicroCase, tmp_path: Path) -> None:
    def stop(index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt

    output = tmp_path / "out"
    with Checkpoint(micro.source) as checkpoint:
        write_checkpoint(checkpoint, Target(2, 16), output, Progress())
        with pytest.raises(KeyboardInterrupt):
            write_checkpoint(checkpoint, Target(2, 8), output, Recorder(stop))
        assert not (output / "latest").exists()
        assert not list(output.rglob("*.tmp"))
        write_checkpoint(checkpoint, Target(2, 8), output, Progress())
    assert (output / "latest").read_text() == "49300"


@pytest.fixture(scope="module")
def twelve_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same random model in 1, 2, 3, 4, 6 and 12 shards."""
    folder = tmp_path_factory.mktemp("twelve_ways")
    sample = PRESETS["glm-sample"]
    model = replace(
        sample,
        num_layers=1,
        hidden_size=96,
        num_attention_heads=12,
        inner_hidden_size=120,
        vocab_size=-(-sample.vocab_size // 12) * 12,
    )
    for tp in (1, 2, 3, 4, 6, 12):
        write_fake_checkpoint(model, tp, 3, folder / str(tp), Progress())
    return folder


@pytest.mark.parametrize("source", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("target", [1, 2, 3, 4, 6])
def test_degrees_that_do_not_divide_each_other(twelve_ways: Path, tmp_path: Path, source: int, target: int) -> None:
    with Checkpoint(twelve_ways / str(source)) as checkpoint:
        write_checkpoint(checkpoint, Target(target, 16), tmp_path / "fp16", Progress())
        write_checkpoint(checkpoint, Target(target, 4), tmp_path / "int4", Progress())
    assert describe_checkpoint(tmp_path / "fp16") == describe_checkpoint(twelve_ways / str(target))
    with Checkpoint(twelve_ways / str(target)) as checkpoint:
        write_checkpoint(checkpoint, Target(target, 4), tmp_path / "direct", Progress())
    assert describe_checkpoint(tmp_path / "int4") == describe_checkpoint(tmp_path / "direct")
