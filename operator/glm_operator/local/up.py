"""`glmctl up`: from the typed resource to a running service on this machine."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from glm_operator import names
from glm_operator.errors import LocalError, Problem, SpecError
from glm_operator.local.output import Console
from glm_operator.local.pod import LocalPod, Signals
from glm_operator.local.probe import curl, generate
from glm_operator.local.volumes import map_volumes, run_folder
from glm_operator.model import GLMDeployment
from glm_operator.resources import Settings, render

_LOOPBACK: Final = "127.0.0.1"
_Document = TypeVar("_Document", dict[Any, Any], list[Any])


@dataclass(frozen=True)
class UpOptions:
    """What the command line says.

    base : folder that the annotation's folders are relative to; port : of the API, 0 for any free one, None for the
    usual one or else any free one; state : kept between runs; claims : folders that stand for claims; programs :
    folder of the image's programs.
    """

    base: Path
    state: Path
    port: int | None = None
    claims: Mapping[str, Path] | None = None
    programs: Path | None = None


def up(deployment: GLMDeployment, options: UpOptions, console: Console) -> None:
    """Convert, serve, answer the sample prompts, and serve on until SIGINT or SIGTERM.

    Raises ``LocalError`` where this machine cannot run the resource.
    """
    began = time.monotonic()
    claims = local_claims(deployment, options.base) | dict(options.claims or {})
    prompts = sample_prompts(deployment)
    settings = Settings(host=_LOOPBACK, api_port=_api_port(options.port), management_port=_free_port())
    objects = render(deployment, settings)
    template = objects[-1]["spec"]["template"]
    config_maps = {o["metadata"]["name"]: o["data"] for o in objects if o["kind"] == "ConfigMap"}
    url = f"http://{_LOOPBACK}:{settings.api_port}"

    def on_ready() -> None:
        console.say(f"ready after {time.monotonic() - began:.1f} s: {url}")
        threading.Thread(target=_try_out, args=(url, prompts, console), name="sample prompts", daemon=True).start()

    if deployment.spec.replicas != 1:
        console.say(f"replicas: {deployment.spec.replicas} in a cluster, one on this machine\n")
    with ExitStack() as stack:
        signals = stack.enter_context(_Listening(console))
        stack.callback(console.restore)
        run = stack.enter_context(run_folder(options.state, deployment.name))
        folders = map_volumes(template["spec"]["volumes"], claims, config_maps, options.state, run)
        LocalPod(
            template, folders=folders, programs=options.programs, console=console, signals=signals, on_ready=on_ready
        ).run()


def local_claims(deployment: GLMDeployment, base: Path) -> dict[str, Path]:
    """Folders that stand for claims, from the resource's annotation; relative ones start at ``base``."""
    given = _annotation(deployment, names.ANNOTATION_LOCAL_VOLUMES, dict, "a mapping of claim to folder")
    return {str(claim): (base / str(folder)).resolve() for claim, folder in given.items()}


def sample_prompts(deployment: GLMDeployment) -> list[str]:
    """The prompts that are tried once the model is ready."""
    return list(map(str, _annotation(deployment, names.ANNOTATION_SAMPLE_PROMPTS, list, "a list of texts")))


def _annotation(deployment: GLMDeployment, key: str, kind: type[_Document], what: str) -> _Document:
    try:
        value = yaml.safe_load(deployment.metadata.annotations.get(key, "")) or kind()
    except yaml.YAMLError:
        value = None
    if not isinstance(value, kind):
        raise SpecError([Problem(f"metadata.annotations[{key}]", f"must hold YAML, {what}")])
    return value


def _try_out(url: str, prompts: list[str], console: Console) -> None:
    for prompt in prompts:
        console.say(f"\n  {prompt}\n  -> {generate(url, prompt)}")
    if prompts:
        console.say(f"\n{curl(url, prompts[0])}")
    console.say("\nCtrl-C ends it.")


def _api_port(wanted: int | None) -> int:
    if wanted == 0:
        return _free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, names.API_PORT if wanted is None else wanted))
        except OSError as error:
            if wanted is None:
                return _free_port()
            raise LocalError(
                f"--port {wanted}: {error.strerror}; give another one, or 0 for any that is free"
            ) from error
        return int(probe.getsockname()[1])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


class _Listening:
    """While open, SIGINT and SIGTERM mean: drain and leave; the second one: leave now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._signals = Signals(threading.Event(), threading.Event())
        self._before: dict[int, object] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self._signals

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal.signal returned, it takes

    def _on_signal(self, _number: int, _frame: object) -> None:
        (self._signals.kill if self._signals.stop.is_set() else self._signals.stop).set()
