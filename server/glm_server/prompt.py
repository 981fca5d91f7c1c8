"""A text with masks as the model reads it: which mask is filled first, and the prompt's ids."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from glm_server.tokenizer import Tokenizer

#: In the order in which they are filled: a text with a [MASK] fills its [MASK]s, and leaves masks of other kinds.
MASKS: Final = ("[MASK]", "[sMASK]", "[gMASK]")

_MASK_PATTERN: Final = re.compile(r"\[[sg]?MASK\]")


@dataclass(frozen=True)
class MaskedText:
    """ids : the text's tokens, masks and ``eos`` included, ``sop`` not.

    mask : the kind of mask that is filled; positions : where in ``ids`` those masks stand, ascending, at least one.
    """

    ids: tuple[int, ...]
    mask: str
    positions: tuple[int, ...]

    @property
    def gmask(self) -> bool:
        """Whether the masks filled are [gMASK]s: generated positions run on."""
        return self.mask == "[gMASK]"


def parse(text: str, tokenizer: Tokenizer) -> MaskedText:
    """Read a text as the original's ``generate.py`` does.

    The pieces between masks are tokenized apart. Without a mask a [gMASK] is appended; unless the text then ends in a
    mask, ``eos`` is.
    """
    special = tokenizer.special_ids
    ids: list[int] = []
    places: dict[str, list[int]] = {mask: [] for mask in MASKS}
    start = 0
    for found in _MASK_PATTERN.finditer(text):
        ids += tokenizer.encode(text[start : found.start()])
        places[found.group()].append(len(ids))
        ids.append(special[found.group()])
        start = found.end()
    ids += tokenizer.encode(text[start:])
    if start == 0:
        places["[gMASK]"].append(len(ids))
        ids.append(special["[gMASK]"])
    elif not text.endswith("MASK]"):
        ids.append(special["eos"])
    mask = next(kind for kind in MASKS if places[kind])
    return MaskedText(tuple(ids), mask, tuple(places[mask]))


def read_ids(ids: tuple[int, ...], tokenizer: Tokenizer) -> MaskedText:
    """The same rules for a prompt given as token ids: a [gMASK] is appended without a mask, ``eos`` after a last text.

    A trailing ``sop`` is taken for the caller's own and dropped, so that ``/tokenize``'s answer can be sent back.
    """
    special = tokenizer.special_ids
    if ids and ids[-1] == special["sop"]:
        ids = ids[:-1]
    mask_ids = {special[mask]: mask for mask in MASKS}
    if not any(token in mask_ids for token in ids):
        ids = (*ids, special["[gMASK]"])
    elif ids[-1] not in mask_ids and ids[-1] != special["eos"]:
        ids = (*ids, special["eos"])
    mask = next(kind for kind in MASKS if special[kind] in ids)
    return MaskedText(ids, mask, tuple(i for i, token in enumerate(ids) if token == special[mask]))
