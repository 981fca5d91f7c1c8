"""`glm convert` as a process: killed at every step, terminated, twice at once, on a disk that fills up."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from glm_cli import cli
from glm_engine.artifact import Artifact
from glm_engine.checkpoint import Checkpoint
from glm_engine.convert import make_artifact, plan_artifact
from glm_engine.progress import Progress
from glm_engine.reshard import Target
from glm_engine.shard_writer import ShardWriter
from micro_case import GLM, MicroCase, unpack

HARNESS = Path(__file__).with_name("kill_at_every_step.py")


@pytest.fixture
def micro(tmp_path: Path) -> MicroCase:
    return unpack(tmp_path / "case")


def heal(micro: MicroCase, output: Path) -> Artifact:
    with Checkpoint(micro.source) as checkpoint:
        return make_artifact(plan_artifact(checkpoint, Target(2, 16), micro.model, output), Progress())


def run(command: list[str], before: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, preexec_fn=before)


def test_killed_at_every_operation_it_never_shows_half_an_artifact_and_heals(micro: MicroCase, tmp_path: Path) -> None:
    reference = heal(micro, tmp_path / "reference")
    options = ["--input-folder", str(micro.source), "--target-tp", "2", "--model", str(micro.model_file)]
    done = run([sys.executable, str(HARNESS), str(tmp_path / "runs"), *options])
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout.split()[-1])
    assert steps >= 20, "the kills must have happened"
    for step in range(steps):
        output = tmp_path / "runs" / str(step)
        published = output / reference.digest
        if published.exists():
            assert Artifact.open(published).damaged() == []
        healed = heal(micro, output)
        assert healed.ranks == reference.ranks
        assert healed.damaged() == []
        # killed between its last two steps it leaves its empty lock file, which nobody holds and the next conversion
        # takes
        left = {path.name for path in output.iterdir()} - {f".{reference.digest}.lock"}
        assert left == {reference.digest}, f"leftovers of step {step}"
        assert len(list(healed.path.iterdir())) == 3


def test_killed_at_any_time_checkpoints_have_no_latest(micro: MicroCase, tmp_path: Path) -> None:
    options = ["--input-folder", str(micro.source), "--target-tp", "2", "--format", "sat"]
    done = run([sys.executable, str(HARNESS), str(tmp_path / "runs"), *options])
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout.split()[-1])
    assert steps >= 10
    for step in range(steps):
        output = tmp_path / "runs" / str(step)
        if (output / "latest").exists():
            with Checkpoint(output) as whole:
                assert whole.tensor_parallel_size == 2


@pytest.mark.parametrize("limit", [0, 1000, 30_000, 120_000])
@pytest.mark.parametrize("layout", ["artifact", "sat"])
def test_a_disk_that_fills_up_meanwhile(micro: MicroCase, tmp_path: Path, limit: int, layout: str) -> None:
    output = tmp_path / "out"
    command = micro.command(output, "--format", layout)
    if layout == "artifact":
        command += ["--model", str(micro.model_file)]
    failed = run(command, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert failed.returncode == 1
    assert "glm: error:" in failed.stderr
    assert "no room to go on writing (File too large)" in failed.stderr
    assert "run the same command again: what is finished is kept" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not [p for p in output.rglob("*") if p.is_file()], "nothing half is left"
    assert run(command).returncode == 0


def test_two_at_once_make_one_artifact(micro: MicroCase, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = micro.command(output, "--model", str(micro.model_file))
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    results = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert len({out for out, _ in results}) == 1
    assert sum("done:" in err for _, err in results) == 1
    assert sum("reused:" in err for _, err in results) == 2
    (folder,) = output.iterdir()
    assert Artifact.open(folder).damaged() == []


def test_who_comes_second_waits_and_takes_over_from_the_dead(micro: MicroCase, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = micro.command(output, "--model", str(micro.model_file))
    digest = heal(micro, tmp_path / "other").digest
    output.mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.flock(f,2); print(flush=True); time.sleep(99)",
            str(output / f".{digest}.lock"),
        ],
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        waiter = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert waiter.stderr is not None
        assert "waiting: another process makes the same artifact" in waiter.stderr.readline()
        holder.kill()
    out, _ = waiter.communicate(timeout=60)
    assert waiter.returncode == 0
    assert Artifact.open(out.strip()).digest == digest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(micro: MicroCase, tmp_path: Path, number: signal.Signals, code: int) -> None:
    fake = tmp_path / "fake"
    shape = ["--layers", "2", "--hidden", "1024", "--heads", "8", "--inner", "2048", "--tp", "1"]
    assert run([*GLM, "fake-checkpoint", *shape, str(fake)]).returncode == 0
    output, told = tmp_path / "out", tmp_path / "progress.json"
    command = ["--model", str(fake / "model.json"), "--target-tp", "8", "--progress-file", str(told)]
    process = subprocess.Popen(
        [*GLM, "convert", "--input-folder", str(fake), "--output-folder", str(output), *command], stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not list(output.glob("*.partial/*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert b"Traceback" not in errors
    assert not list(output.rglob("*.tmp"))
    assert not list(output.glob(".*.lock"))
    assert '"phase": "failed"' in told.read_text()


@pytest.mark.parametrize("layout", ["artifact", "sat"])
def test_a_signal_between_making_a_file_and_minding_it(
    micro: MicroCase, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(writer: ShardWriter) -> NoReturn:
        made = next(tmp_path.rglob("*.tmp"))
        writer.__exit__()  # closes its files, as the end of the process would; that one does not remove any
        made.touch()
        raise SystemExit(130)

    monkeypatch.setattr(ShardWriter, "__enter__", interrupted)
    model = ["--model", str(micro.model_file)] if layout == "artifact" else []
    options = ["--input-folder", str(micro.source), "--output-folder", str(tmp_path), "--format", layout, *model]
    assert CliRunner().invoke(cli, ["convert", *options]).exit_code == 130
    assert not list(tmp_path.rglob("*.tmp"))
