"""The command lines of the image: the contract between operator and serving, rendered here and nowhere else."""

from __future__ import annotations

from typing import Final

from glm_operator import names
from glm_operator.model import GLMDeployment
from glm_operator.quantity import to_number
from glm_operator.resources.settings import Settings
from glm_operator.resources.volumes import checkpoint_path, tokenizer_path

_BITS: Final = {"int8": "8", "int4": "4"}
#: The server stops waiting for running requests this long before the kubelet kills it, in seconds.
_DRAIN_MARGIN: Final = 5


def convert(deployment: GLMDeployment) -> list[str]:
    """`glm convert`: from the checkpoint to an artifact, and a link to it where the server looks."""
    spec = deployment.spec
    model = spec.model.preset or f"{names.PATH_CONFIG}/{names.MODEL_FILE}"
    command = ["glm", "convert", "--input-folder", checkpoint_path(deployment)]
    command += ["--output-folder", names.PATH_ARTIFACTS, "--target-tp", str(spec.tensor_parallel_size)]
    # A quantized checkpoint is taken as it is: asking for its own width again would be an error.
    if spec.precision != "fp16" and spec.checkpoint.precision == "fp16":
        command += ["--quantization-bit-width", _BITS[spec.precision]]
    return [*command, "--model", model, "--link", names.PATH_ARTIFACT_LINK]


def serve(deployment: GLMDeployment, settings: Settings) -> list[str]:
    """`glm serve`: the API on one port, probes and metrics on the other."""
    spec = deployment.spec
    command = ["glm", "serve", "--artifact", names.PATH_ARTIFACT_LINK, "--tokenizer", tokenizer_path(deployment)]
    command += ["--host", settings.host, "--port", str(settings.api_port)]
    command += ["--management-port", str(settings.management_port), "--backend", spec.backend]
    command += ["--max-batch-size", str(spec.limits.max_batch_size)]
    command += ["--drain-timeout", str(spec.pod.termination_grace_period_seconds - _DRAIN_MARGIN)]
    if spec.limits.max_sequence_length is not None:
        command += ["--max-sequence-length", str(spec.limits.max_sequence_length)]
    if spec.limits.kv_cache is not None:
        command += ["--kv-cache-bytes", str(int(to_number(spec.limits.kv_cache)))]
    if spec.auth is not None:
        command += ["--api-keys-file", f"{names.PATH_AUTH}/{names.KEYS_FILE}"]
    return command
