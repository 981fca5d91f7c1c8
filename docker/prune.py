"""Removes from site-packages what `import torch` on a CPU never opens: most of its CUDA packages' bytes.

Usage: prune.py SITE_PACKAGES; then, by the interpreter of those packages, prune.py --check.

The dynamic linker is asked what torch's own modules need, transitively, because
PyPI's wheel is linked against CUDA even where there is no GPU; every other library below torch/ and nvidia/ goes,
with headers, static libraries, device bitcode and tests. The CUDA backend needs cuBLASLt, NCCL and the runtime,
which torch needs too, so one result serves both.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

MiB = 1 << 20
PROGRAMS_KEPT = {"torch_shm_manager"}  # `import torch` looks for it
FOLDERS_DROPPED = ("torch/include/", "torch/share/", "torch/test/")
SUFFIXES_DROPPED = (".a", ".bc", ".h", ".hpp", ".cuh", ".cmake")


def needed_by(binary: Path) -> set[Path]:
    """Libraries that the dynamic linker maps for `binary`, as it finds them; raises SystemExit where one is missing."""
    out = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=True).stdout
    if missing := re.findall(r"(\S+) => not found", out):
        sys.exit(f"prune.py: {binary} needs {', '.join(missing)}, which no installed package has")
    return {Path(path).resolve() for path in re.findall(r"=> (\S+) \(", out)}


def doomed(site: Path) -> Iterator[Path]:
    """Files below torch/ and nvidia/ that can go."""
    torch = site / "torch"
    roots = [*torch.glob("_C*.so"), torch / "lib/libtorch_python.so", torch / "lib/libtorch_global_deps.so"]
    kept = set().union(*map(needed_by, roots)) | {root.resolve() for root in roots}
    for file in [*torch.rglob("*"), *(site / "nvidia").rglob("*")]:
        relative = file.relative_to(site).as_posix()
        if not file.is_file():
            continue
        if (
            (re.search(r"\.so(\.\d+)*$", file.name) and file.resolve() not in kept)
            or file.suffix in SUFFIXES_DROPPED
            or relative.startswith(FOLDERS_DROPPED)
            or (file.parent == torch / "bin" and file.name not in PROGRAMS_KEPT)
        ):
            yield file


def check() -> None:
    """Saves and loads a checkpoint as conversion does; raises whatever torch raises where too much was removed."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mp_rank_00_model_states.pt"
        torch.save({"module": {"weight": torch.ones(3, dtype=torch.float16)}}, file)
        loaded = torch.load(file, weights_only=True, mmap=True)
    if loaded["module"]["weight"].float().sum() != 3:
        sys.exit("prune.py: torch does not load what it saved")


def prune(site: Path) -> None:
    """Prunes and says how much is left of each package."""
    freed = 0
    for file in list(doomed(site)):
        freed += file.stat().st_size
        file.unlink()
    for package in ("torch", "nvidia"):
        left = sum(file.stat().st_size for file in (site / package).rglob("*") if file.is_file())
        print(f"{package}: {left / MiB:.0f} MiB left")
    print(f"{freed / MiB:.0f} MiB removed")


def main() -> None:
    """Reads the command line."""
    if sys.argv[1:] == ["--check"]:
        check()
    else:
        prune(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
