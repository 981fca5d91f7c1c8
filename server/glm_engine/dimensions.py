"""What the shapes of a checkpoint tell about its model, and what they must fit."""

from __future__ import annotations

from dataclasses import dataclass

from glm_engine.config import PRESETS, ModelConfig
from glm_engine.errors import ConfigError
from glm_engine.sharding import TensorRule


@dataclass(frozen=True)
class Dimensions:
    """What the shapes of a checkpoint tell about its model. ``head_dim`` is None where no rotary buffer tells it."""

    num_layers: int
    hidden_size: int
    inner_hidden_size: int
    vocab_size: int
    head_dim: int | None

    @property
    def num_attention_heads(self) -> int | None:
        """Heads, where ``head_dim`` is known."""
        return self.hidden_size // self.head_dim if self.head_dim else None

    @property
    def sizes(self) -> dict[str, int]:
        """The axes that ``TensorRule.shape`` names."""
        return {
            "hidden": self.hidden_size,
            "qkv": 3 * self.hidden_size,
            "inner": self.inner_hidden_size,
            "glu": 2 * self.inner_hidden_size,
            "vocab": self.vocab_size,
            "rotary": (self.head_dim or 0) // 2,
        }

    def full_shape(self, rule: TensorRule) -> tuple[int, ...]:
        """Whole shape of a tensor of that kind."""
        return tuple(self.sizes[axis] for axis in rule.shape)

    def check_tensor_parallel(self, tp: int) -> None:
        """Raise ``ConfigError`` unless every tensor can be cut into ``tp`` equal parts, heads kept whole."""
        bounds = {"hidden size": self.hidden_size, "inner size": self.inner_hidden_size, "vocabulary": self.vocab_size}
        if self.num_attention_heads:
            bounds["number of heads"] = self.num_attention_heads
        for name, value in bounds.items():
            if tp < 1 or value % tp:
                works = [n for n in range(1, 65) if not any(v % n for v in bounds.values())]
                raise ConfigError(
                    f"target tensor parallel degree {tp} does not divide the {name} ({value}) of this checkpoint; "
                    f"degrees that work: {', '.join(map(str, works))}"
                )

    def check_model(self, model: ModelConfig, source: str) -> None:
        """Raise ``ConfigError`` where the description ``model`` and the checkpoint's shapes disagree."""
        for field in ("num_layers", "hidden_size", "inner_hidden_size", "vocab_size", "head_dim"):
            found, described = getattr(self, field), getattr(model, field)
            if found is not None and found != described:
                raise ConfigError(
                    f"model: `{field}` is described as {described}, but the checkpoint {source} has {found}; "
                    "give the --model that belongs to this checkpoint"
                )

    def detect_model(self) -> ModelConfig:
        """The preset of this shape. Raises ``ConfigError`` where none fits: heads and special ids are in no shape."""
        for model in PRESETS.values():
            if all(getattr(self, f) in (None, getattr(model, f)) for f in self.__dataclass_fields__):
                return model
        shape = ", ".join(f"{name} {getattr(self, name)}" for name in self.__dataclass_fields__)
        raise ConfigError(
            f"the checkpoint's shape ({shape}) is none of the presets' ({', '.join(PRESETS)}): describe it with "
            "--model FILE, a JSON object with " + ", ".join(ModelConfig.__dataclass_fields__)
        )
