"""What the cluster needs of the machine: which program comes from which Debian package, and installing them."""

import os
import shutil
import subprocess
import sys

PACKAGE_OF = {
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "buildah": "buildah",
    "containerd": "containerd",
    "ctr": "containerd",
    "flock": "util-linux",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "pgrep": "procps",
    "runc": "runc",
    "sysctl": "procps",
}


def missing_packages() -> list[str]:
    """Names of the Debian packages whose programs are not on this machine, sorted."""
    return sorted({package for program, package in PACKAGE_OF.items() if not shutil.which(program)})


def why_not() -> str | None:
    """The reason why this machine can't run the cluster, or None. Changes nothing."""
    if sys.platform != "linux":
        return "the end-to-end cluster needs Linux"
    if os.geteuid() != 0:
        return "the end-to-end cluster needs root: it makes namespaces, mounts and cgroups"
    if not shutil.which("go"):
        return "the end-to-end cluster is built with Go, which is not installed"
    if not os.access("/sys/fs/cgroup", os.W_OK) or not _may_unshare():
        return "the end-to-end cluster needs to make namespaces and cgroups, which is not allowed here"
    missing = missing_packages()
    if missing and not shutil.which("apt-get"):
        return f"the end-to-end cluster needs {', '.join(missing)}, and there is no apt-get to install them"
    return None


def install_missing() -> list[str]:
    """Installs the missing packages and returns their names. Raises CalledProcessError where apt-get fails."""
    packages = missing_packages()
    if packages:
        _apt_get("update", "-q")
        _apt_get("install", "-qy", "--no-install-recommends", *packages)
    return packages


def _apt_get(*args: str) -> None:
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", *args], env=env, check=True, stdout=subprocess.DEVNULL)


def _may_unshare() -> bool:
    unshare = shutil.which("unshare")
    command = [unshare or "unshare", "--net", "--mount", "--pid", "--fork", "true"]
    return bool(unshare) and subprocess.run(command, capture_output=True, check=False).returncode == 0
