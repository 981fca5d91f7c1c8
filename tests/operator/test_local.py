"""The parts of the local run: prefixes, paths, folders, the guard."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_operator.errors import LocalError
from glm_operator.local import guard
from glm_operator.local.output import Console, Prefixer
from glm_operator.local.translate import translate
from glm_operator.local.volumes import map_volumes, run_folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("a\nb\n", "> a\n> b\n", id="lines"),
        pytest.param("\n\n", "\n\n", id="empty lines stay empty"),
        pytest.param("10%\r20%\r", "> 10%\r> 20%\r", id="carriage returns"),
        pytest.param("10%\r\x1b[2K20%", "> 10%\r\x1b[2K> 20%", id="the prefix comes after the line is cleared"),
        pytest.param("\x1b[32mok\x1b[0m\n", "\x1b[32m> ok\x1b[0m\n", id="colours"),
        pytest.param("首都\n", "> 首都\n", id="chinese"),
    ],
)
def test_prefixes(text: str, expected: str) -> None:
    assert Prefixer("> ").feed(text.encode()) == expected


@given(st.text("ab\n\r\x1b[2;Km首"), st.integers(1, 5))
def test_prefixes_do_not_depend_on_how_the_bytes_arrive(text: str, size: int) -> None:
    data = text.encode() + b"z"
    piecewise = Prefixer("> ")
    pieces = "".join(piecewise.feed(data[i : i + size]) for i in range(0, len(data), size))
    assert pieces.replace("> ", "") == data.decode()
    assert pieces == Prefixer("> ").feed(data)


def test_own_lines_start_on_a_line_of_their_own() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.write("progress 10%")
    console.say("ready")
    console.say("again")
    assert stream.getvalue() == "progress 10%\nready\nagain\n"


MOUNTS = {"/run/glm": Path("/r"), "/run": Path("/all"), "/tmp": Path("/t")}  # noqa: S108 -- a mount, not a file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/glm/artifact", "/r/artifact"),
        ("/run/glm", "/r"),
        ("/run/glmx", "/all/glmx"),
        ("/runs", "/runs"),
        ("--link=/run/glm/artifact", "--link=/r/artifact"),
        ("a=/run/glm", "a=/run/glm"),
        ("say /tmp", "say /tmp"),
    ],
)
def test_mount_paths(text: str, expected: str) -> None:
    assert translate(text, MOUNTS) == expected


def claim(name: str, *, read_only: bool) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": read_only}}


def test_volumes_become_folders(tmp_path: Path) -> None:
    for name in ("source", "run"):
        (tmp_path / name).mkdir()
    volumes = [
        claim("weights", read_only=True),
        claim("made", read_only=False),
        {"name": "scratch", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "demo-model"}},
        {"name": "node", "hostPath": {"path": str(tmp_path / "node"), "type": "DirectoryOrCreate"}},
    ]
    folders = map_volumes(
        volumes,
        {"weights": tmp_path / "source"},
        {"demo-model": {"model.json": "{}"}},
        tmp_path / "state",
        tmp_path / "run",
    )
    assert folders == {
        "weights": tmp_path / "source",
        "made": tmp_path / "state/artifacts",
        "scratch": tmp_path / "run/scratch",
        "config": tmp_path / "run/config",
        "node": tmp_path / "node",
    }
    assert all(folder.is_dir() for folder in folders.values())
    assert (tmp_path / "run/config/model.json").read_text() == "{}"


def test_a_missing_folder_of_the_node_is_named(tmp_path: Path) -> None:
    volume = {"name": "node", "hostPath": {"path": str(tmp_path / "none"), "type": "Directory"}}
    with pytest.raises(LocalError, match="none: is not a folder on this machine"):
        map_volumes([volume], {}, {}, tmp_path, tmp_path)


def test_the_file_of_a_folder_stands_for_a_secrets_key(tmp_path: Path) -> None:
    (tmp_path / "team").write_text("a key of sixteen")
    secret = {"secretName": "glm-keys", "items": [{"key": "team", "path": "keys"}]}
    run = tmp_path / "run"
    run.mkdir()
    volumes = [{"name": "auth", "secret": secret}]
    folders = map_volumes(volumes, {"glm-keys": tmp_path}, {}, tmp_path, run)
    assert (folders["auth"] / "keys").read_text() == "a key of sixteen"
    with pytest.raises(LocalError, match="give --volume glm-keys=FOLDER"):
        map_volumes(volumes, {}, {}, tmp_path, tmp_path)
    (tmp_path / "team").unlink()
    (folders["auth"] / "keys").unlink()
    folders["auth"].rmdir()
    with pytest.raises(LocalError, match="is not a file"):
        map_volumes(volumes, {"glm-keys": tmp_path}, {}, tmp_path, run)


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="file: cannot be written"), run_folder(tmp_path / "file", "demo"):
        pass


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with run_folder(state, "one") as one:
        with run_folder(state, "two") as two:
            assert one.is_dir()
            assert two.is_dir()
        assert not two.exists()
        assert one.is_dir()
    assert list(tmp_path.iterdir()) == []


def guarded(*command: str) -> subprocess.CompletedProcess[str]:
    reading, writing = os.pipe()
    try:
        line = [sys.executable, "-I", "-S", str(guard.__file__), str(reading), *command]
        return subprocess.run(line, pass_fds=(reading,), capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("exit 0", 0)], ids=["code", "signal", "success"]
)
def test_the_guard_ends_as_its_program(script: str, code: int) -> None:
    assert guarded("sh", "-c", script).returncode == code


def test_the_guard_ends_what_the_program_started() -> None:
    result = guarded("sh", "-c", "setsid sleep 1000 & sleep 1000 & echo started")
    assert (result.returncode, result.stdout) == (0, "started\n")  # capture_output waits until nobody holds the pipe


def test_a_program_that_is_not_there() -> None:
    result = guarded("no-such-program")
    assert (result.returncode, result.stderr) == (127, "cannot run no-such-program: No such file or directory\n")
