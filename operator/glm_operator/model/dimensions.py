"""Which model: a preset by name, or its dimensions."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from glm_operator.model.base import Base, Rule

#: The special tokens, in the original's order; each has an id.
SPECIAL_TOKENS: Final = ("[MASK]", "[gMASK]", "[sMASK]", "eod", "sop", "eop", "ENC", "dBLOCK", "eos")

#: Far above any model of this architecture; keeps every product of two dimensions below 2**63 in CEL.
_Count = Annotated[int, Field(ge=1, le=2**24)]


class Dimensions(Base):
    """The dimensions of a model of GLM-130B's architecture."""

    num_layers: _Count
    """Number of transformer layers."""
    hidden_size: _Count
    """Width of the hidden state; a multiple of twice numAttentionHeads (rotary positions need an even head)."""
    num_attention_heads: _Count
    """Number of attention heads."""
    inner_hidden_size: _Count
    """Width of the feed-forward layer's inner state, one half of the GLU."""
    vocab_size: _Count
    """Rows of the embedding, padding included."""
    num_text_tokens: _Count
    """The first token id that is not text, at which the special tokens begin."""
    max_sequence_length: _Count
    """The longest sequence, prompt and answer, in tokens."""
    layernorm_eps: Annotated[float, Field(gt=0, lt=1)]
    """Epsilon of the layer norms."""
    special_ids: Annotated[dict[str, Annotated[int, Field(ge=0, le=2**24)]], Field(max_length=16)]
    """Id of each special token: [MASK], [gMASK], [sMASK], eod, sop, eop, ENC, dBLOCK and eos."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.hiddenSize % (2 * self.numAttentionHeads) == 0",
            holds=lambda d: d.hidden_size % (2 * d.num_attention_heads) == 0,
            message="must be a multiple of twice numAttentionHeads",
            field="hiddenSize",
            detail=lambda d: (
                f"must be a multiple of twice numAttentionHeads ({2 * d.num_attention_heads}); got {d.hidden_size}"
            ),
        ),
        Rule(
            cel="self.numTextTokens <= self.vocabSize",
            holds=lambda d: d.num_text_tokens <= d.vocab_size,
            message="must not exceed vocabSize",
            field="numTextTokens",
            detail=lambda d: f"must not exceed vocabSize ({d.vocab_size}); got {d.num_text_tokens}",
        ),
        Rule(
            cel=f"{list(SPECIAL_TOKENS)}.all(t, t in self.specialIds && self.specialIds[t] < self.vocabSize)",
            holds=lambda d: all(d.special_ids.get(t, d.vocab_size) < d.vocab_size for t in SPECIAL_TOKENS),
            message=f"must give each of {', '.join(SPECIAL_TOKENS)} an id below vocabSize",
            field="specialIds",
        ),
    )

    def describe(self) -> dict[str, Any]:
        """The description that ``glm convert --model FILE`` reads."""
        return self.model_dump(by_alias=False)


PresetName = Literal["glm-130b", "glm-sample"]


def _ids(num_text_tokens: int, eos: int) -> dict[str, int]:
    return {name: num_text_tokens + i for i, name in enumerate(SPECIAL_TOKENS[:-1])} | {"eos": eos}


#: The same numbers as the serving side's presets; a test compares them.
PRESETS: Final[dict[str, Dimensions]] = {
    "glm-130b": Dimensions(
        num_layers=70,
        hidden_size=12288,
        num_attention_heads=96,
        inner_hidden_size=32768,
        vocab_size=150528,
        num_text_tokens=150000,
        max_sequence_length=2048,
        layernorm_eps=1e-5,
        special_ids=_ids(150000, 20002),
    ),
    "glm-sample": Dimensions(
        num_layers=4,
        hidden_size=128,
        num_attention_heads=8,
        inner_hidden_size=344,
        vocab_size=2048,
        num_text_tokens=2000,
        max_sequence_length=512,
        layernorm_eps=1e-5,
        special_ids=_ids(2000, 2),
    ),
}


class Model(Base):
    """Which model the checkpoint holds: a preset, or the dimensions of another model of the same architecture."""

    preset: PresetName | None = None
    """A known model: glm-130b, or glm-sample (the small model of the project's repository)."""
    dimensions: Dimensions | None = None
    """The dimensions of a model that is no preset."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.preset) != has(self.dimensions)",
            holds=lambda m: (m.preset is None) != (m.dimensions is None),
            message=f"give exactly one of preset ({', '.join(PRESETS)}) and dimensions",
        ),
    )

    def resolve(self) -> Dimensions:
        """The dimensions, whichever way they were given."""
        return self.dimensions or PRESETS[self.preset or "glm-130b"]


def dimension_cel(field: str) -> str:
    """CEL for a dimension of ``self.model`` (``self`` is the spec): never an error, whatever is missing."""
    name = Dimensions.model_fields[field].alias
    default, *others = PRESETS
    known = str(getattr(PRESETS[default], field))
    for preset in others:
        known = (
            f"has(self.model.preset) && self.model.preset == '{preset}' ? {getattr(PRESETS[preset], field)} : {known}"
        )
    return f"(has(self.model.dimensions) ? self.model.dimensions.{name} : ({known}))"
