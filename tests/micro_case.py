"""The golden micro case as a source for conversions: its folder, its description, and the command that converts it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from glm_engine.config import ModelConfig
from golden_micro import extract_small


@dataclass(frozen=True)
class MicroCase:
    """An unpacked micro case: ``source`` (8 shards), ``model`` and the JSON file of its description."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "src"

    @property
    def model(self) -> ModelConfig:
        return ModelConfig.from_dict(json.loads((self.folder / "expected.json").read_text())["config"])

    @property
    def model_file(self) -> Path:
        path = self.folder / "model.json"
        path.write_text(json.dumps(self.model.to_dict()))
        return path

    def command(self, output: Path, *options: str) -> list[str]:
        """`glm convert` to two ranks of FP16, which needs no torch and starts quickly; later options win."""
        base = ["--input-folder", str(self.source), "--output-folder", str(output), "--target-tp", "2"]
        return [*GLM, "convert", *base, *options]


#: The `glm` program in this interpreter.
GLM = [sys.executable, "-c", "import glm_cli; glm_cli.main()"]


def unpack(folder: Path) -> MicroCase:
    """Unpack the case below ``folder``."""
    return MicroCase(extract_small(folder))
