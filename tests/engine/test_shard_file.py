"""One shard file: what is damaged, hostile or merely unusual in it."""

from __future__ import annotations

import argparse
import os
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glm_engine.errors import CheckpointError
from glm_engine.shard_file import ShardFile

HALVES = torch.arange(12, dtype=torch.float16).reshape(3, 4)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mp_rank_00_model_states.pt"


def save(path: Path, module: Any, **beside: Any) -> Path:
    torch.save({"module": module, **beside}, path)
    return path


def read(shard: ShardFile, key: str) -> list[float]:
    ref = shard.tensors[key]
    return np.frombuffer(shard.read(ref, 0, int(np.prod(ref.shape))), dtype=ref.dtype).tolist()


def test_reads_what_torch_wrote(path: Path) -> None:
    save(path, OrderedDict(a=HALVES, b=torch.nn.Parameter(torch.ones(2).half()), c=torch.ones(3, dtype=torch.int8)))
    with ShardFile(path) as shard:
        assert [(k, r.dtype, r.shape) for k, r in shard.tensors.items()] == [
            ("a", "float16", (3, 4)),
            ("b", "float16", (2,)),
            ("c", "int8", (3,)),
        ]
        assert read(shard, "a") == list(range(12))
        assert shard.has_checksums


def test_a_view_reads_only_its_part_of_the_storage(path: Path) -> None:
    save(path, {"rows": HALVES[1:], "columns": HALVES[:, 1:3]})
    with ShardFile(path) as shard:
        rows, columns = shard.tensors["rows"], shard.tensors["columns"]
        assert np.frombuffer(shard.read(rows, 0, 8), np.float16).tolist() == list(range(4, 12))
        assert (columns.offset, columns.stride) == (1, (4, 1))


def test_what_training_leaves_beside_the_weights_is_ignored(path: Path) -> None:
    leftovers = {
        "iteration": 49300,
        "args": argparse.Namespace(fp16=True),
        "random_rng_state": random.getstate(),
        "np_rng_state": np.random.default_rng(1).bit_generator.state,
        "np_array": np.arange(3),
        "torch_rng_state": torch.get_rng_state(),
        "lr_scheduler": None,
        "sizes": torch.Size([1, 2]),
        "kept": {"set": {1, 2}},
    }
    save(path, {"a": HALVES}, **leftovers)
    with ShardFile(path) as shard:
        assert list(shard.tensors) == ["a"]


class Exploit:
    def __reduce__(self) -> Any:
        return os.system, ("touch exploited",)


def test_code_in_the_pickle_is_refused_and_not_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    save(path, {"a": HALVES}, evil=Exploit())
    with pytest.raises(CheckpointError, match=r"asks for '(posix|nt)\.system'.*nothing of it was run"):
        ShardFile(path)
    assert not (path.parent / "exploited").exists()


def test_every_truncation_is_found(path: Path) -> None:
    save(path, {"a": HALVES, "b": torch.ones(64).half()})
    whole = path.read_bytes()
    for size in [0, 1, 30, *range(50, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"mp_rank_00_model_states\.pt: is (empty|not a whole torch file)"):
            ShardFile(path)


def test_a_bit_flip_anywhere_in_the_weights_is_found_and_named(path: Path) -> None:
    save(path, {"weights": HALVES})
    whole = path.read_bytes()
    at = whole.index(HALVES.numpy().tobytes())
    for offset in range(HALVES.numel() * 2):
        damaged = bytearray(whole)
        damaged[at + offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        with (
            ShardFile(path) as shard,
            pytest.raises(CheckpointError, match=r"weights \(record data/0\) is damaged: its CRC"),
        ):
            read(shard, "weights")


def test_a_part_is_not_trusted_before_its_record_is(path: Path) -> None:
    save(path, {"weights": HALVES})
    data = bytearray(path.read_bytes())
    data[bytes(data).index(HALVES.numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with ShardFile(path) as shard:
        ref = shard.tensors["weights"]
        with pytest.raises(CheckpointError, match="is damaged"):
            shard.read(ref, 4, 4)
    with ShardFile(path) as shard:
        shard.read(ref, 0, 4)
        with pytest.raises(CheckpointError, match="is damaged"):
            shard.finish(ref)


def test_a_damaged_description_is_found(path: Path) -> None:
    save(path, {"weights": HALVES})
    data = bytearray(path.read_bytes())
    data[bytes(data).index(b"weights")] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"record data\.pkl is damaged"):
        ShardFile(path)


def test_files_without_checksums_are_read(path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        save(path, {"weights": HALVES})
    finally:
        torch.serialization.set_crc32_options(before)
    with ShardFile(path) as shard:
        assert not shard.has_checksums
        assert read(shard, "weights") == list(range(12))
        first = shard.identity
    os.utime(path, (1, 1))
    with ShardFile(path) as shard:
        assert shard.identity != first, "without sums the time tells one content from another"


def test_a_file_that_shrinks_while_it_is_read(path: Path) -> None:
    save(path, {"weights": torch.zeros(1 << 16).half()})
    with ShardFile(path) as shard:
        os.truncate(path, 4096)
        with pytest.raises(CheckpointError, match="the file shrank while it was read"):
            shard.read(shard.tensors["weights"], 0, 1 << 16)
        with pytest.raises(CheckpointError, match="was changed while it was read"):
            shard.check_unchanged()


def test_a_file_that_is_replaced_while_it_is_read(path: Path) -> None:
    save(path, {"weights": HALVES})
    with ShardFile(path) as shard:
        shard.check_unchanged()
        other = save(path.with_name("other"), {"weights": HALVES})
        other.replace(path)
        with pytest.raises(CheckpointError, match="was changed while it was read"):
            shard.check_unchanged()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        pytest.param(None, "key `module`: expected a dict of tensors; found no such key", id="no module"),
        pytest.param([HALVES], "key `module`: expected a dict of tensors; found list", id="module is a list"),
        pytest.param({"a": "text"}, "'a': expected a tensor; found str", id="no tensor"),
        pytest.param({"a": HALVES.t()}, "rows one after the other", id="transposed"),
        pytest.param({"a": torch.zeros(2, 2, 2)}, r"expected a vector or a matrix; found shape \[2, 2, 2\]", id="3-D"),
        pytest.param({"a": torch.zeros(0)}, "expected a vector or a matrix", id="empty"),
        pytest.param({"a": HALVES.to_sparse()}, "'a': expected a tensor; found _Inert", id="sparse"),
    ],
)
def test_other_contents_are_refused(path: Path, module: Any, message: str) -> None:
    save(path, module)
    with pytest.raises(CheckpointError, match=message):
        ShardFile(path)


def test_the_format_of_torch_before_1_6_is_named(path: Path) -> None:
    torch.save({"module": {"a": HALVES}}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"Files of torch before 1\.6"):
        ShardFile(path)


def rewrite(path: Path, change: Any) -> None:
    """Write the container again with ``change(name, data) -> (data, compression)``, sums right."""
    with zipfile.ZipFile(path) as source:
        records = [(info.filename, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(path, "w") as out:
        for name, data in records:
            out.writestr(name, *change(name, data))


def test_a_description_that_claims_more_than_the_file_has(path: Path) -> None:
    save(path, {"weights": HALVES})

    def lie(name: str, data: bytes) -> tuple[bytes, int]:
        huge = b"K\x0ct", b"\x8a\x06\x00\x00\x00\x00\x00\x04t"  # 12 elements become 4 TiB
        return (data.replace(*huge) if name.endswith("data.pkl") else data), zipfile.ZIP_STORED

    rewrite(path, lie)
    with pytest.raises(CheckpointError, match=r"weights: expected \d{13} bytes of storage; found 24"):
        ShardFile(path)


def test_compressed_records_are_refused(path: Path) -> None:
    save(path, {"weights": HALVES})
    rewrite(path, lambda name, data: (data, zipfile.ZIP_DEFLATED))
    with pytest.raises(CheckpointError, match="is compressed"):
        ShardFile(path)


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be opened: No such file"):
        ShardFile(path)
