"""The server's settings: each is defined once here, as a flag of `glm serve` and an environment variable.

Flags win over the environment, and the environment over the defaults; all of it is read in ``read_environment`` and
nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, Literal

from glm_engine.errors import ConfigError

ENV_PREFIX: Final = "GLM_"


def _setting(text: str, default: Any = None, minimum: float | None = None) -> Any:
    return field(default=default, metadata={"help": text, "minimum": minimum})


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Settings of one server. Raises ``ConfigError`` naming the flag, the bound and what was given."""

    artifact: str = _setting("Folder of the artifact that `glm convert` wrote.", "")
    tokenizer: str = _setting("The model's SentencePiece file.", "")
    backend: Literal["cpu", "cuda"] = _setting("What computes: cpu or cuda.", "cpu")
    model_name: str = _setting("Name under which the model is served; empty: glm-130b.", "")
    api_keys_file: str = _setting("File of API keys, one a line, read again when it changes; empty: no key needed.", "")
    host: str = _setting("Address to listen on.", "127.0.0.1")
    port: int = _setting("Port of the API; 0 takes a free one and prints it.", 5000, 0)
    management_port: int = _setting("Port of /metrics, /livez and /readyz; 0 takes a free one.", 9400, 0)
    max_batch_size: int = _setting("Sequences that run at once; a beam is one.", 16, 1)
    max_sequence_length: int = _setting("Tokens of prompt and answer together; 0: the model's.", 0, 0)
    max_waiting: int = _setting("Requests that wait beyond those that run; 0: twice the batch size.", 0, 0)
    max_prompts: int = _setting("Prompts (lines, OpenAI's lists) in one request.", 64, 1)
    max_body_bytes: int = _setting("Bytes of a request's body.", 1 << 20, 1024)
    max_header_bytes: int = _setting("Bytes of a request's headers.", 32 << 10, 1024)
    receive_timeout_s: float = _setting("Seconds in which a request must have arrived.", 30.0, 0.1)
    step_deadline_s: float = _setting(
        "Seconds without a step, while there is work, after which the engine is lost.", 120.0, 0.1
    )
    kv_cache_bytes: int = _setting("Bytes of KV cache over all ranks; 0: room for a full batch of full length.", 0, 0)
    keepalive_s: float = _setting("Seconds of silence after which a stream sends a comment.", 15.0, 0.01)
    drain_timeout: float = _setting("Seconds that running requests get to end after SIGTERM.", 25.0, 0)
    log_format: str = _setting("json or text.", "json")
    log_level: str = _setting("debug, info, warning or error.", "info")

    def __post_init__(self) -> None:
        for each in fields(self):
            minimum, value = each.metadata["minimum"], getattr(self, each.name)
            if minimum is not None and not value >= minimum:
                raise ConfigError(f"`{flag(each.name)}` must be >= {minimum:g}; got {value}")
        for name, allowed in (
            ("backend", ("cpu", "cuda")),
            ("log_format", ("json", "text")),
            ("log_level", ("debug", "info", "warning", "error")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"`{flag(name)}` must be one of {', '.join(allowed)}; got {getattr(self, name)!r}")
        for name in ("port", "management_port"):
            if getattr(self, name) > 65535:
                raise ConfigError(f"`{flag(name)}` must be <= 65535; got {getattr(self, name)}")

    @property
    def waiting_limit(self) -> int:
        """Requests that may wait in the engine's queue."""
        return self.max_waiting or 2 * self.max_batch_size

    @property
    def open_limit(self) -> int:
        """Generating HTTP requests that may be in the server at once."""
        return self.max_batch_size + self.waiting_limit


def flag(name: str) -> str:
    """The flag of a setting: ``max_batch_size`` -> ``--max-batch-size``."""
    return "--" + name.replace("_", "-")


def setting_type(setting: Field[Any]) -> type[str] | type[int] | type[float]:
    """The type of a setting: that of its default."""
    for kind in (str, int, float):
        if isinstance(setting.default, kind):
            return kind
    raise TypeError(f"setting {setting.name} has a default of no known type")


def read_environment(environ: Mapping[str, str], flags: Mapping[str, Any]) -> ServerConfig:
    """Settings from flags (those given, by field name) over ``GLM_...`` variables over defaults.

    Raises ``ConfigError`` for a variable that can't be read as the setting's type.
    """
    values = dict(flags)
    for each in fields(ServerConfig):
        name = ENV_PREFIX + each.name.upper()
        if each.name in values or name not in environ:
            continue
        kind = setting_type(each)
        try:
            values[each.name] = kind(environ[name])
        except ValueError as error:
            raise ConfigError(f"{name} must be {kind.__name__}; got {environ[name]!r}") from error
    return ServerConfig(**values)
