"""Peak memory of a conversion of a 2 GB checkpoint: at most 2 x the largest tensor + 300 MB above the libraries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from micro_case import GLM

GB = 1_000_000_000
#: The real vocabulary; 2.0 GB in all, of which the embedding is 617 MB: 77 MB in each of the 8 source shards.
SHAPE = ["--layers", "14", "--hidden", "2048", "--heads", "16", "--inner", "5440", "--tp", "8"]
#: Samples anonymous memory (file pages do not count: the kernel can drop them) from before the work begins.
MEASURED = """
import sys, threading, time
import torch, glm_cli, glm_engine.quantize, glm_engine.convert, glm_engine.convert_sat, glm_cli.convert
torch.ones(4096, 4096).half().abs_().div_(3)  # the library's own threads and buffers
def anonymous():
    fields = dict(line.split(":") for line in open("/proc/self/status"))
    return 1024 * int(fields["RssAnon"].split()[0])
base = peak = anonymous()
over = threading.Event()
def sample():
    global peak
    while not over.wait(0.005):
        peak = max(peak, anonymous())
thread = threading.Thread(target=sample)
thread.start()
try:
    glm_cli.cli(sys.argv[1:], standalone_mode=False)
finally:
    over.set()
    thread.join()
    print("peak above the libraries:", peak - base)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two_gigabytes")
    if shutil.disk_usage(folder).free < 8 * GB:
        pytest.skip("needs 8 GB of free disk")
    subprocess.run([*GLM, "fake-checkpoint", *SHAPE, str(folder / "source")], check=True, timeout=200)
    return folder / "source"


@pytest.mark.parametrize(
    ("layout", "tp", "options"),
    [
        ("sat", 1, ["--format", "sat", "--quantization-bit-width", "4"]),
        ("artifact", 1, []),
        ("artifact", 2, ["--quantization-bit-width", "8"]),
    ],
)
@pytest.mark.xdist_group("two_gigabytes")
def test_peak_memory(checkpoint: Path, tmp_path: Path, layout: str, tp: int, options: list[str]) -> None:
    output = tmp_path / "out"
    model = ["--model", str(checkpoint / "model.json")] if layout == "artifact" else []
    arguments = ["convert", "--input-folder", str(checkpoint), "--output-folder", str(output), "--target-tp", str(tp)]
    try:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *arguments, *options, *model],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
    finally:
        shutil.rmtree(output, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1])
    largest = 2 * 150528 * 2048 // tp
    assert 0 < peak <= 2 * largest + 300_000_000, f"{peak / 1e6:.0f} MB"
    print(f"{layout} tp{tp}: {peak / 1e6:.0f} MB")
