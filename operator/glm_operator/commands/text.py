"""What the commands print: YAML and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml


def to_yaml(documents: Iterable[Any]) -> str:
    """Documents as people write them: keys in their order, Unicode as it is, no anchors."""
    texts = [yaml.dump(d, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120) for d in documents]
    return "---\n".join(texts)


def table(rows: Sequence[tuple[str, str]]) -> str:
    """Two columns."""
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"  {label:<{width}}  {text}" for label, text in rows)


class _Plain(yaml.SafeDumper):
    """Without anchors: what is equal twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
