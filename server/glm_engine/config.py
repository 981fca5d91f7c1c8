"""What a model is: its dimensions and its special tokens.

A model is described, not assumed: a preset by name, or a JSON file. The artifact's manifest carries the description
from conversion on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from glm_engine.errors import ConfigError

Precision = Literal["fp16", "int8", "int4"]

#: Bits per quantized weight; fp16 weights are not quantized.
PRECISION_BITS: Final[dict[Precision, int]] = {"fp16": 16, "int8": 8, "int4": 4}

SPECIAL_TOKENS: Final = ("[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK", "eos")


@dataclass(frozen=True)
class ModelConfig:
    """Dimensions of a GLM-130B-architecture model.

    ``vocab_size`` counts the padded rows of the embedding; ``num_text_tokens`` is the first id that is not text, at
    which the special tokens begin. ``special_ids`` maps each of ``SPECIAL_TOKENS`` to its id.

    Raises ``ConfigError`` naming the field, the bound and what was given.
    """

    num_layers: int
    hidden_size: int
    num_attention_heads: int
    inner_hidden_size: int
    vocab_size: int
    num_text_tokens: int
    max_sequence_length: int
    layernorm_eps: float
    special_ids: dict[str, int]

    def __post_init__(self) -> None:
        for field in (
            "num_layers",
            "hidden_size",
            "num_attention_heads",
            "inner_hidden_size",
            "vocab_size",
            "num_text_tokens",
            "max_sequence_length",
        ):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"model: `{field}` must be a positive integer; got {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"model: `hidden_size` must be a multiple of `num_attention_heads` ({self.num_attention_heads}); "
                f"got {self.hidden_size}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"model: the head dimension must be even for rotary positions; got {self.head_dim}")
        if not 0 < self.layernorm_eps < 1:
            raise ConfigError(f"model: `layernorm_eps` must lie between 0 and 1; got {self.layernorm_eps}")
        for token in SPECIAL_TOKENS:
            given = self.special_ids.get(token)
            if not isinstance(given, int) or not 0 <= given < self.vocab_size:
                raise ConfigError(
                    f"model: `special_ids` must give {token!r} an id below `vocab_size` ({self.vocab_size}); "
                    f"got {given!r}"
                )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def end_ids(self) -> tuple[int, int]:
        """The tokens that end a generation: eop and eos."""
        return self.special_ids["eop"], self.special_ids["eos"]

    def check_tensor_parallel(self, tp: int) -> None:
        """Raise ``ConfigError`` unless the model can be cut into ``tp`` equal shards."""
        for name, value in (
            ("num_attention_heads", self.num_attention_heads),
            ("inner_hidden_size", self.inner_hidden_size),
            ("vocab_size", self.vocab_size),
        ):
            if tp < 1 or value % tp:
                allowed = ", ".join(str(n) for n in range(1, 17) if not self._indivisible(n))
                raise ConfigError(
                    f"tensor parallel degree {tp} does not divide {name} ({value}); degrees that work: {allowed}"
                )

    def _indivisible(self, tp: int) -> bool:
        return any(v % tp for v in (self.num_attention_heads, self.inner_hidden_size, self.vocab_size))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as in the artifact's manifest and in ``--model FILE``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Read the JSON form. Keys beside the fields are ignored (a description may carry notes)."""
        fields = cls.__dataclass_fields__
        missing = [name for name in fields if name not in data]
        if missing:
            raise ConfigError(f"model: missing {', '.join(missing)}; a description has {', '.join(fields)}")
        return cls(**{name: data[name] for name in fields})

    @classmethod
    def load(cls, source: str) -> ModelConfig:
        """Read a preset's name or the path of a JSON file (``--model``)."""
        if source in PRESETS:
            return PRESETS[source]
        path = Path(source)
        if not path.is_file():
            raise ConfigError(f"model: {source!r} is neither a file nor a preset; presets: {', '.join(PRESETS)}")
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise ConfigError(f"model: {source} is not readable JSON: {error}") from error
        if not isinstance(data, dict):
            raise ConfigError(f"model: {source} must hold a JSON object; got {type(data).__name__}")
        return cls.from_dict(data)


def _consecutive(num_text_tokens: int, eos: int) -> dict[str, int]:
    """Special ids in the original order, right after the text tokens."""
    return {name: num_text_tokens + i for i, name in enumerate(SPECIAL_TOKENS[:-1])} | {"eos": eos}


PRESETS: Final[dict[str, ModelConfig]] = {
    "glm-130b": ModelConfig(
        num_layers=70,
        hidden_size=12288,
        num_attention_heads=96,
        inner_hidden_size=32768,
        vocab_size=150528,
        num_text_tokens=150000,
        max_sequence_length=2048,
        layernorm_eps=1e-5,
        special_ids=_consecutive(150000, 20002),
    ),
    "glm-sample": ModelConfig(
        num_layers=4,
        hidden_size=128,
        num_attention_heads=8,
        inner_hidden_size=344,
        vocab_size=2048,
        num_text_tokens=2000,
        max_sequence_length=512,
        layernorm_eps=1e-5,
        special_ids=_consecutive(2000, 2),
    ),
}
