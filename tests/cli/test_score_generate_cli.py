"""`glm score` and `glm generate`: JSON lines in, what the golden case says out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from engine_support import Golden, make
from glm_cli import cli
from glm_engine.artifact import Artifact
from glm_engine.errors import GlmError
from golden_micro import extract_small


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    return Golden.open(extract_small(tmp_path_factory.mktemp("golden")))


@pytest.fixture(scope="module")
def artifact(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make(golden.folder / "src", tmp_path_factory.mktemp("artifacts"), golden.model, 2, "fp16")


def glm(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in args])


def write(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def question(golden: Golden, name: str, **more: Any) -> dict[str, Any]:
    p = golden.prompts[name]
    return {
        "id": name,
        "ids": p["ids"],
        "context_length": p["context_length"],
        "mask_position": p["mask_position"],
        "gmask": p["gmask"],
    } | more


def test_score_writes_every_tokens_logits(golden: Golden, artifact: Artifact, tmp_path: Path) -> None:
    names = [name for name in golden.prompts if f"{name}/logits" in golden.arrays]
    lines = [question(golden, name, ids=golden.arrays[f"{name}/tokens"].tolist()) for name in names]
    out = tmp_path / "out.npz"
    result = glm("score", "--artifact", artifact.path, "--in", write(tmp_path / "in.jsonl", lines), "--out", out)
    assert result.exit_code == 0, result.output
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".npz"] == ["out.npz"]
    with np.load(out) as found:
        assert sorted(found) == sorted(names)
        for name in names:
            assert found[name].dtype == np.float32
            rows = golden.arrays[f"{name}/rows"]
            picked = found[name][rows][:, golden.arrays["cols"]]
            np.testing.assert_allclose(picked, golden.arrays[f"{name}/logits"], atol=1e-3)


def test_generate_by_every_strategy(golden: Golden, artifact: Artifact, tmp_path: Path) -> None:
    length = golden.expected["gen"]
    beams = golden.expected["beam_settings"]["B"]
    names = [name for name, p in golden.prompts.items() if "beam" in p]
    lines = [question(golden, n, strategy="greedy", max_new_tokens=length) for n in names]
    lines += [
        question(golden, n, strategy="BeamSearchStrategy", max_new_tokens=length) | {"id": f"beam-{n}"} | beams
        for n in names
    ]
    sampled = {"strategy": "sampling", "temperature": 0.9, "top_k": 40, "top_p": 0.9, "seed": 7, "max_new_tokens": 9}
    lines += [question(golden, names[0]) | sampled | {"id": i} for i in ("once", "again")]
    result = glm("generate", "--artifact", artifact.path.parent, "--in", write(tmp_path / "in.jsonl", lines))
    assert result.exit_code == 0, result.output
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [line["id"] for line in lines]
    by_name = {answer["id"]: answer for answer in answers}
    for name in names:
        assert by_name[name]["ids"] == golden.prompts[name]["greedy_with_end_tokens"]
        expected = golden.prompts[name]["beam"]["B"]
        assert by_name[f"beam-{name}"]["beams"] == expected["beams"]
        assert by_name[f"beam-{name}"]["ids"] == expected["beams"][0]
        np.testing.assert_allclose(by_name[f"beam-{name}"]["scores"], expected["penalized_scores"], atol=1e-4)
    assert by_name["once"]["ids"] == by_name["again"]["ids"]


def test_generate_to_a_file(golden: Golden, artifact: Artifact, tmp_path: Path) -> None:
    name = next(iter(golden.prompts))
    source = write(tmp_path / "in.jsonl", [question(golden, name, ignore_end=True, max_new_tokens=3)])
    result = glm("generate", "--artifact", artifact.path, "--in", source, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 0
    answer = json.loads((tmp_path / "out.jsonl").read_text())
    assert answer == {"id": name, "ids": golden.prompts[name]["greedy"][:3], "finish": "length"}


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        ("generate", "[1]", "line 1: expected an object; got list"),
        ("generate", "{", "line 1: "),
        ("generate", '{"id": "a", "ids": [241, 244]}', "line 1: `mask_position` is missing"),
        ("generate", '{"id": "a", "ids": []}', "`ids` must be a list of token ids, at least one"),
        ("generate", '{"id": "a", "ids": [1], "oops": 1}', "unknown field 'oops'; a request has "),
        (
            "generate",
            '{"id": "a", "ids": [241, 244], "mask_position": 0, "gmask": true, "strategy": "best"}',
            "`strategy` must be one of greedy, sampling, beam",
        ),
        (
            "generate",
            '{"id": "a", "ids": [241, 244], "mask_position": 0, "gmask": true, "max_new_tokens": 4000}',
            "request 'a': max_new_tokens: must be 1 to 2046 for a 2-token prompt",
        ),
        ("score", '{"id": "", "ids": [1]}', "`id` must be a text or a number"),
        (
            "score",
            '{"id": "a", "ids": [1, 241, 244], "context_length": 4, "mask_position": 1, "gmask": true}',
            "context_length: must be 1 to 3",
        ),
        (
            "score",
            '{"id": "a", "ids": [1], "context_length": true, "mask_position": 1, "gmask": true}',
            "`context_length` must be int; got True",
        ),
    ],
)
def test_bad_lines_are_named(artifact: Artifact, tmp_path: Path, command: str, line: str, message: str) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(line + "\n")
    options: list[str | Path] = ["--out", tmp_path / "out"] if command == "score" else []
    result = glm(command, "--artifact", artifact.path, "--in", source, *options)
    assert isinstance(result.exception, GlmError)
    assert message in str(result.exception)
    assert list(tmp_path.iterdir()) == [source], "nothing half-written"
