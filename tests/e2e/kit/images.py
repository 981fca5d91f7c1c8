"""Builds the project's images once per content: the tag is the digest of everything that goes in."""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e.kit.cluster import SCRIPTS, Paths, scripts_env
from e2e.kit.layout import keep_newest, tags

ROOT = Path(__file__).parents[3]
KEPT = 4  # of each image: several checkouts on one machine share the cache, and the layers are mostly the same


@dataclass(frozen=True)
class Image:
    """An image of the project: `inputs` are the files and folders, from the root, that its Dockerfile copies."""

    name: str
    inputs: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    dockerfile: Path = field(init=False)

    def __post_init__(self) -> None:
        short = self.name.removeprefix("glm-")
        object.__setattr__(self, "dockerfile", ROOT / "docker" / f"{short}.Dockerfile")


SERVER = Image(
    "glm-server",
    (
        "CMakeLists.txt",
        "LICENSE",
        "README.md",
        "csrc",
        "docker/prune.py",
        "docker/sbom.py",
        "docker/server.lock",
        "docker/tools.lock",
        "pyproject.toml",
        "server",
    ),
    ("BACKEND=cpu",),
)
OPERATOR = Image("glm-operator", ("docker/operator.lock", "docker/sbom.py", "docker/tools.lock", "operator"))


@dataclass(frozen=True)
class Built:
    """An image that lies in an OCI layout, a folder that holds all kept tags of one name."""

    reference: str
    layout: Path

    @property
    def tag(self) -> str:
        """The digest of what the image was built from."""
        return self.reference.rsplit(":", 1)[1]


@contextmanager
def alone(run: str) -> Iterator[None]:
    """Waits for other test runs that use the images' cache, so that none takes away what another is about to load.

    Programs started inside inherit the lock: the build of a test run that was killed holds it until it ends.
    """
    images = Paths.of(run).images
    images.mkdir(parents=True, exist_ok=True)
    with (images / "build.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        os.set_inheritable(held.fileno(), True)
        yield


def build(image: Image, run: str, note: Callable[[str], None]) -> Built:
    """The image of the checkout's present content, built unless the cache has it.

    Must run outside the cluster's network, which has no way to package registries, and inside `alone`. Raises
    AssertionError with the build's output where it fails.
    """
    paths = Paths.of(run)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        tag = _export(image, context)
        built = Built(f"localhost/{image.name}:{tag}", paths.images / image.name)
        if tag not in tags(built.layout):
            note(f"building {built.reference}")
            _run("base.sh", run)
            options = [f"--build-arg={argument}" for argument in image.arguments]
            _run("image.sh", run, image.name, tag, str(image.dockerfile), folder, *options)
            keep_newest(built.layout, KEPT)
    return built


def _export(image: Image, context: Path) -> str:
    """Copies the inputs into `context`, without owners, times and modes of this checkout; returns their digest."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *image.inputs],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    digest = hashlib.sha256(image.dockerfile.read_bytes())
    digest.update((SCRIPTS / "base.sh").read_bytes())
    digest.update("\0".join(image.arguments).encode())
    for name in sorted(filter(None, listed.split("\0"))):
        source, target = ROOT / name, context / name
        if not source.exists():  # removed, not yet committed
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        target.write_bytes(content)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    for path in [*context.rglob("*"), context]:
        os.utime(path, (0, 0))
    return digest.hexdigest()[:16]


def _run(script: str, run: str, *args: str) -> None:
    done = subprocess.run(
        [SCRIPTS / script, *args],
        env=scripts_env(run),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        close_fds=False,  # see `alone`
    )
    assert done.returncode == 0, f"{script} {' '.join(args)}: exit status {done.returncode}\n{done.stdout[-8000:]}"
