"""Starts one cluster for all processes of a test run, and ends it with the last of them, however that one ends."""

import fcntl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from e2e.kit.cluster import SCRIPTS, Cluster, Paths, scripts_env


@contextmanager
def shared_cluster(run: str, note: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster named `run`, started by the first process that asks.

    Every user holds a shared lock on one file. A watcher waits for the exclusive lock and then ends the cluster:
    the kernel frees the locks of a killed process too, so nothing is left behind. `note` is told what took time.
    Raises AssertionError with the daemons' last words where the cluster does not come up.
    """
    paths = Paths.of(run)
    paths.state.parent.mkdir(parents=True, exist_ok=True)
    users = paths.cache / f"{run}.users"
    with ExitStack() as stack:
        held = stack.enter_context(users.open("w"))
        fcntl.flock(held, fcntl.LOCK_SH)
        with (paths.cache / f"{run}.start").open("w") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            if not (paths.state / "ready").exists():
                stack.push(_watch(run, users, held))
                note(_output("up.sh", run).strip())
                (paths.state / "ready").touch()
        yield Cluster(run, paths, pid=int((paths.state / "pid").read_text()))


def _watch(run: str, users: Path, held: IO[str]) -> Callable[..., None]:
    """Starts the watcher; the returned function frees this process's lock and waits until the cluster is gone."""
    script = f'rm -f "$1" "${{1%.users}}.start"; exec "{SCRIPTS}/down.sh"'
    command = ["flock", "--exclusive", str(users), "bash", "-c", script, "watcher", str(users)]
    watcher = subprocess.Popen(command, env=scripts_env(run), stdin=subprocess.DEVNULL, start_new_session=True)

    def end(*_: object) -> None:
        held.close()
        watcher.wait()

    return end


def _output(script: str, run: str) -> str:
    done = subprocess.run([SCRIPTS / script], env=scripts_env(run), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        logs = "".join(f"--- {log.name}\n{_tail(log)}" for log in sorted(Paths.of(run).state.glob("log/*.log")))
        raise AssertionError(f"{script}: exit status {done.returncode}\n{done.stdout}{done.stderr}{logs}")
    return done.stdout


def _tail(log: Path, lines: int = 15) -> str:
    return "".join(log.read_text(errors="replace").splitlines(keepends=True)[-lines:])
