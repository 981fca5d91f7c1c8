"""Masked texts and their filling, against the original's own calls and answers."""

from __future__ import annotations

from typing import Any

import pytest

from glm_engine.config import ModelConfig
from glm_server.blanks import Filling, Segment
from glm_server.prompt import parse, read_ids
from glm_server.tokenizer import Tokenizer
from server_support import ToyText, golden_cases, read_golden


def golden_tokenizer(data: dict[str, Any]) -> Tokenizer:
    config = ModelConfig.from_dict(data["config"])
    return Tokenizer(ToyText(config.num_text_tokens, config.special_ids["eos"]), config)


@pytest.mark.parametrize("case", golden_cases())
def test_golden_calls_and_answers(case: str) -> None:
    data = read_golden(case)
    tokenizer = golden_tokenizer(data)
    for name, golden in data["fill_blanks"].items():
        filling = Filling(parse(golden["text"], tokenizer), tokenizer)
        for call in golden["calls"]:
            prompt = filling.prompt()
            assert list(prompt.ids) == call["input"], name
            filling.fill([output[len(prompt.ids) :] for output in call["outputs"]])
        assert filling.done, name
        # The original writes a mask that stays as [[gMASK]]; we write it as the user did.
        assert filling.answers == [answer.replace("[[gMASK]]", "[gMASK]") for answer in golden["answers"]], name
        assert filling.blanks[0] == golden["blanks"][0], name
        assert [blanks[-1] for blanks in filling.blanks] == [blanks[-1] for blanks in golden["blanks"]], name


@pytest.mark.parametrize("case", golden_cases())
def test_golden_prompts_by_ids(case: str) -> None:
    data = read_golden(case)
    tokenizer = golden_tokenizer(data)
    for name, golden in data["prompts"].items():
        prompt = Filling(read_ids(tuple(golden["ids"]), tokenizer), tokenizer).prompt()
        assert list(prompt.ids) == golden["ids"], name
        assert (prompt.mask_position, prompt.gmask) == (golden["mask_position"], golden["gmask"]), name


@pytest.mark.parametrize(
    ("text", "ids", "position", "gmask"),
    [
        ("", [241, 244], 0, True),
        ("w1", [1, 241, 244], 1, True),
        ("w1[gMASK]", [1, 241, 244], 1, True),
        ("[MASK]", [240, 244], 0, False),
        ("w1[MASK]w2", [1, 240, 2, 20, 244], 1, False),
        ("w1[sMASK]w2[gMASK]", [1, 242, 2, 241, 244], 1, False),
        ("w1[gMASK]w2[MASK]", [1, 241, 2, 240, 244], 3, False),
        ("w1[xMASK]", [1, 241, 244], 1, True),
        ("w1[MASK] ", [1, 240, 20, 244], 1, False),
    ],
)
def test_parse(toy: Tokenizer, text: str, ids: list[int], position: int, gmask: bool) -> None:
    prompt = Filling(parse(text, toy), toy).prompt()
    assert (list(prompt.ids), prompt.mask_position, prompt.gmask) == (ids, position, gmask)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ((), [241, 244]),
        ((1,), [1, 241, 244]),
        ((1, 240, 2), [1, 240, 2, 20, 244]),
        ((1, 240, 2, 20, 244), [1, 240, 2, 20, 244]),
    ],
)
def test_read_ids(toy: Tokenizer, ids: tuple[int, ...], expected: list[int]) -> None:
    assert list(Filling(read_ids(ids, toy), toy).prompt().ids) == expected


def test_generated_masks_are_text_not_blanks(toy: Tokenizer) -> None:
    filling = Filling(parse("w1 [MASK] w2 [MASK]", toy), toy)
    filling.fill([[240, 5, 245]])
    assert not filling.done
    assert filling.prompt().mask_position == 4
    filling.fill([[]])
    assert filling.done
    assert filling.answers == ["w1 [MASK]w5 w2 "]
    assert filling.blanks == [["[MASK]w5 ", ""]]


def test_segments_show_where_the_blanks_were(toy: Tokenizer) -> None:
    filling = Filling(parse("w1 [MASK] w2 [MASK] w3", toy), toy)
    filling.fill([[7, 8, 20], [9]])
    filling.fill([[6]])
    assert filling.segments == [
        Segment("w1 ", False),
        Segment("w7 w8 ", True),
        Segment("w2 ", False),
        Segment("w6 ", True),
        Segment("w3 ", False),
    ]


def test_leave_keeps_open_masks(toy: Tokenizer) -> None:
    filling = Filling(parse("w1 [MASK] w2 [MASK] w3", toy), toy)
    filling.fill([[7]])
    filling.leave()
    assert filling.done
    assert filling.answers == ["w1 w7 w2 [MASK]w3 "]
