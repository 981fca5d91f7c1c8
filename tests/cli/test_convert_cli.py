"""What a person and the operator see of `glm convert`, `inspect`, `verify` and `fake-checkpoint`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import glm_cli
from glm_engine.artifact import Artifact
from glm_engine.errors import GlmError
from golden_micro import describe_checkpoint, manifest, read_shards
from micro_case import GLM, MicroCase, unpack


@pytest.fixture
def micro(tmp_path: Path) -> MicroCase:
    return unpack(tmp_path / "case")


def glm(*arguments: str | Path) -> Result:
    return CliRunner().invoke(glm_cli.cli, [str(a) for a in arguments])


def convert(micro: MicroCase, output: Path, *options: str | Path) -> Result:
    base = ["--input-folder", micro.source, "--output-folder", output, "--model", micro.model_file]
    return glm("convert", *base, *options)


def message(result: Result) -> str:
    assert isinstance(result.exception, GlmError)
    return str(result.exception)


def test_stdout_is_the_path_and_stderr_the_progress(micro: MicroCase, tmp_path: Path) -> None:
    result = convert(micro, tmp_path / "out", "--target-tp", "2")
    assert result.exit_code == 0
    artifact = Artifact.open(result.stdout.removesuffix("\n"))
    assert result.stderr.splitlines()[0] == "converting: 239.2 kB in 2 shards"
    assert result.stderr.splitlines()[-1].startswith("done: 239.2 kB in ")
    again = convert(micro, tmp_path / "out", "--target-tp", "2")
    assert again.stdout == f"{artifact.path}\n"
    assert again.stderr == "reused: the artifact is there already\n"


def test_the_original_tools_command_line(micro: MicroCase, tmp_path: Path) -> None:
    options = ["--format", "sat", "--target-tp", "4", "--quantization-bit-width", "8"]
    result = glm("convert", "--input-folder", micro.source, "--output-folder", tmp_path / "out", *options)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out'}\n"
    assert describe_checkpoint(tmp_path / "out") == manifest(micro.folder)["tp4_int8"]


def test_the_link_and_the_progress_file(micro: MicroCase, tmp_path: Path) -> None:
    link, told = tmp_path / "run" / "artifact", tmp_path / "progress.json"
    for tp in ("2", "4"):
        result = convert(micro, tmp_path / "out", "--target-tp", tp, "--link", link, "--progress-file", told)
        assert result.exit_code == 0
        assert Artifact.open(link).path == Path(result.stdout.strip())
        assert Artifact.open(link).tensor_parallel_size == int(tp)
    numbers = json.loads(told.read_text())
    assert numbers["bytes_done"] == numbers["bytes_total"] > 0
    assert numbers | {"bytes_done": 0, "bytes_total": 0} == {
        "phase": "done",
        "bytes_done": 0,
        "bytes_total": 0,
        "shard": 3,
        "shards": 4,
        "eta_s": None,
    }
    assert [path.name for path in tmp_path.glob("run/*")] == ["artifact"]


def test_a_link_never_replaces_something_else(micro: MicroCase, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    result = convert(micro, tmp_path / "out", "--link", tmp_path / "folder")
    assert "there is something else than a link; remove it or give another path" in message(result)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--target-tp", "16"], "degree 16 does not divide the number of heads (8)"),
        (["--model", "glm-130b"], "`num_layers` is described as 70, but the checkpoint"),
        (["--model", "nothing"], "'nothing' is neither a file nor a preset; presets: glm-130b, glm-sample"),
        (["--format", "sat"], "--model and --link belong to --format artifact"),
        (["--input-folder", "/nonexistent"], "/nonexistent/latest: expected a file with the iteration's name"),
    ],
)
def test_messages(micro: MicroCase, tmp_path: Path, options: list[str], text: str) -> None:
    assert text in message(convert(micro, tmp_path / "out", *options))
    assert not (tmp_path / "out").exists(), "nothing is made before everything is checked"


def test_a_model_that_no_preset_describes_must_be_described(micro: MicroCase, tmp_path: Path) -> None:
    result = glm("convert", "--input-folder", micro.source, "--output-folder", tmp_path / "out")
    assert "num_layers 2, hidden_size 64" in message(result)
    assert "describe it with --model FILE" in message(result)


def test_an_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = subprocess.run([*GLM, "inspect", str(tmp_path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("glm: error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_gets_a_bar(micro: MicroCase, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    command = micro.command(tmp_path / "out", "--model", str(micro.model_file))
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 65536):
            seen += part
    except OSError:  # how Linux says that the other side is closed
        pass
    assert process.wait(timeout=60) == 0
    text = seen.decode()
    assert "shard 2/2" in text
    assert "239.2/239.2 kB" in text
    assert "ETA" in text
    assert "done: 239.2 kB" in text


def test_inspect_and_verify(micro: MicroCase, tmp_path: Path) -> None:
    artifact = Path(convert(micro, tmp_path / "out", "--quantization-bit-width", "4").stdout.strip())
    told = json.loads(glm("inspect", artifact, "-o", "json").stdout)
    assert (told["kind"], told["precision"], told["tensor_parallel_size"]) == ("artifact", "int4", 4)
    assert "[gMASK]" in glm("inspect", artifact).stdout
    told = json.loads(glm("inspect", micro.source, "-o", "json").stdout)
    assert (told["kind"], told["precision"], told["model"]["num_attention_heads"]) == ("checkpoint", "fp16", 8)
    assert "mp_rank_07" in glm("inspect", micro.source).stdout

    assert glm("verify", artifact).stdout.endswith("all as written\n")
    path = artifact / "rank_02.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "rank_02.safetensors differ from what was written" in message(glm("verify", artifact))


def test_a_fake_checkpoint_is_the_same_model_at_every_degree(micro: MicroCase, tmp_path: Path) -> None:
    common = ["fake-checkpoint", "--preset", micro.model_file, "--layers", "3", "--seed", "5"]
    for tp in ("1", "4"):
        assert glm(*common, "--tp", tp, tmp_path / tp).exit_code == 0
    shape = glm("inspect", tmp_path / "4", "-o", "json").stdout
    assert json.loads(shape)["model"]["num_layers"] == 3
    to_one = ["convert", "--format", "sat", "--input-folder", tmp_path / "4", "--output-folder", tmp_path / "1from4"]
    assert glm(*to_one, "--target-tp", "1").exit_code == 0
    assert describe_checkpoint(tmp_path / "1from4") == describe_checkpoint(tmp_path / "1")

    (weights,) = read_shards(tmp_path / "1")
    assert torch.stack([torch.isfinite(w).all() for w in weights.values()]).all()
    assert 0.9 < weights["transformer.layers.0.attention.dense.weight"].float().std() * 8 < 1.1
    other = glm(*common[:-1], "6", "--tp", "1", tmp_path / "other")
    assert other.exit_code == 0
    assert describe_checkpoint(tmp_path / "other") != describe_checkpoint(tmp_path / "1")
    assert "holds a checkpoint already" in message(glm(*common, "--tp", "1", tmp_path / "1"))


def test_a_fake_checkpoint_has_the_tensors_of_a_real_one(micro: MicroCase, tmp_path: Path) -> None:
    assert glm("fake-checkpoint", "--preset", micro.model_file, "--tp", "8", tmp_path / "fake").exit_code == 0
    shapes = [{k: v[:2] for k, v in shard.items()} for shard in describe_checkpoint(tmp_path / "fake")]
    assert shapes == [{k: v[:2] for k, v in shard.items()} for shard in manifest(micro.folder)["src"]]
    rotary = "transformer.layers.1.attention.rotary_emb.inv_freq"
    assert torch.equal(read_shards(tmp_path / "fake")[0][rotary], read_shards(micro.source)[0][rotary])
