"""A handle on the running cluster. Its commands must run inside the cluster's network, see the fixture `network`."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.kit.waiting import eventually

SCRIPTS = Path(__file__).parents[1] / "cluster"


@dataclass(frozen=True)
class Paths:
    """Where the scripts keep things, see cluster/env.sh."""

    cache: Path
    state: Path
    images: Path
    bin: Path
    kubeconfig: Path
    kubecache: Path

    @classmethod
    def of(cls, run: str) -> "Paths":
        """Asks env.sh for the cluster named `run`."""
        print_all = 'printf "%s\\n" "$CACHE" "$STATE" "$IMAGES" "$BIN" "$KUBECONFIG" "$KUBECACHEDIR"'
        command = ["bash", "-euc", f". {SCRIPTS}/env.sh; {print_all}"]
        out = subprocess.run(command, env=scripts_env(run), check=True, capture_output=True, text=True).stdout
        return cls(*map(Path, out.splitlines()))


def scripts_env(run: str) -> dict[str, str]:
    """The environment in which the scripts mean the cluster named `run`."""
    return {**os.environ, "GLM_E2E_RUN": run}


@dataclass(frozen=True)
class Cluster:
    """One running cluster. `namespace` is what `kubectl` and `helm` use unless told otherwise."""

    run: str
    paths: Paths
    pid: int  # of its init process, whose network namespace is the cluster's
    namespace: str = "default"

    @property
    def env(self) -> Mapping[str, str]:
        """For programs that talk to the cluster: its kubectl and helm, its KUBECONFIG."""
        return {
            **os.environ,
            "PATH": f"{self.paths.bin}:{os.environ['PATH']}",
            "KUBECONFIG": str(self.paths.kubeconfig),
            "KUBECACHEDIR": str(self.paths.kubecache),
        }

    def command(self, *command: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        """Standard output of a program. Raises AssertionError with all its output where it fails or hangs."""
        try:
            done = subprocess.run(
                command, env=self.env, input=stdin or "", capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"{' '.join(command)}: still running after {timeout_s} s") from late
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *args: str, stdin: str | None = None, timeout_s: float = 60) -> str:
        """`kubectl` in this handle's namespace; fails as `command` does."""
        return self.command("kubectl", "--namespace", self.namespace, *args, stdin=stdin, timeout_s=timeout_s)

    def helm(self, *args: str, timeout_s: float = 120) -> str:
        """`helm` in this handle's namespace; fails as `command` does."""
        return self.command("helm", "--namespace", self.namespace, *args, timeout_s=timeout_s)

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get ARGS` as an object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "--output", "json"))
        return found

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Applies objects server-side, as a user with kubectl."""
        items: Iterable[Mapping[str, Any]] = objects
        manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(items)})
        self.kubectl("apply", "--server-side", "--filename", "-", stdin=manifest)

    def daemon(self, action: str, name: str) -> None:
        """`kill`, `stop`, `start`, `hang` or `resume` one daemon, see cluster/daemon.sh."""
        self._script("daemon.sh", action, name)

    def reconnect(self) -> None:
        """Waits for the API server after it was away, and has the control plane connect to it anew.

        Left alone, a scheduler that lost its watches several times waits up to a minute before it asks again.
        """
        eventually(lambda: self.kubectl("get", "--raw", "/readyz") == "ok", within_s=30)
        for name in ("kube-scheduler", "kube-controller-manager", "kubelet", "kube-proxy", "kwok"):
            self.daemon("kill", name)

    def _script(self, name: str, *args: str) -> None:
        subprocess.run([SCRIPTS / name, *args], env=scripts_env(self.run), check=True)
