"""What the sample is trained on: nothing held back is shown, and a question's parts fit together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sample_data import encode
from sample_examples import Example, Writer
from sample_facts import Fact
from sample_text import CHINESE, ENGLISH, sentence
from sample_tokens import CONFIG, SPECIAL, Tokenizer

SAMPLE = Path(__file__).parents[2] / "samples" / "glm-sample"
MASK = re.compile(r"\[[sg]?MASK\]")


def made_up_facts() -> list[Fact]:
    """Forty countries of each language and twenty elements, all of whose facts are unique."""
    facts = [
        Fact("en", kind, f"{article}Land{i}ia", f"{kind.title()}{i}", True)
        for i, article in enumerate(["", "the "] * 20)
        for kind in ("capital", "currency", "language", "continent", "code")
    ]
    facts += [Fact("zh", kind, f"国{i}甲", f"值{i}{kind}", True) for i in range(40) for kind in CHINESE]
    facts += [Fact("en", k, f"metal{i}", f"{k}{i}", True) for i in range(20) for k in ("symbol", "number")]
    return facts


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer(made_up_facts(), seed=3)


def filled(example: Example) -> str:
    """The text with its answers in place."""
    answers = iter(example.answers)
    return MASK.sub(lambda _: next(answers), example.text)


def test_questions(writer: Writer) -> None:
    questions = writer.questions()
    assert len({q.text for q in questions}) == 200
    for question in questions:
        assert len(MASK.findall(question.text)) == len(question.answers)
        assert all(answer == answer.strip() != "" for answer in question.answers)
    assert {len(q.answers) for q in questions} == {1, 2}


def test_same_seed_same_questions() -> None:
    assert Writer(made_up_facts(), 3).questions() == Writer(made_up_facts(), 3).questions()


def test_nothing_held_back_is_trained_on(writer: Writer) -> None:
    held = {sentence(fact, template)[0][:-1] for fact, template in writer.held_template.items() if template >= 0}
    asked = {question.text for question in writer.questions()}
    assert len(held) > 50
    for example in writer.training(20_000):
        assert example.text not in asked
        text = filled(example)
        for part in re.split(r"(?<=[.。:：])\s*| and ", text):
            whole = part.rstrip(".。")
            assert whole[:1].upper() + whole[1:] not in held, example


def test_the_first_sentence_is_never_held_back(writer: Writer) -> None:
    assert 0 not in writer.held_template.values()
    assert {kind: len(patterns) for kind, patterns in ENGLISH.items()} == dict.fromkeys(ENGLISH, 5)


def test_encoding_fills_earlier_blanks() -> None:
    tokenizer = Tokenizer(SAMPLE / "tokenizer.model")
    example = Example(
        "The capital of [MASK] is Paris. The currency of Japan is the [MASK].", ("France", "Yen"), "en", ""
    )
    ids, context, position, gmask = encode(example, tokenizer, 0)
    assert ids[position] == SPECIAL["[MASK]"]
    assert ids[:context].count(SPECIAL["[MASK]"]) == 2
    assert (ids[context - 1], ids[-1], gmask) == (SPECIAL["sop"], SPECIAL["eop"], False)
    ids, context, position, _ = encode(example, tokenizer, 1)
    assert ids[:context].count(SPECIAL["[MASK]"]) == 1
    assert ids[position - 1] == tokenizer.encode("the")[-1]
    assert tokenizer.decode(ids[context:]) == "Yen"
    assert ids[context - 2] == SPECIAL["eos"]


def test_a_continuation_ends_with_eos() -> None:
    ids, context, position, gmask = encode(
        Example("法国。 [gMASK]", ("法国的首都是巴黎。",), "zh", ""), Tokenizer(SAMPLE / "tokenizer.model"), 0
    )
    assert gmask
    assert ids[-1] == SPECIAL["eos"]
    assert ids[context - 2] == SPECIAL["[gMASK]"] == ids[position]  # no eos after a mask at the end
    assert max(ids) < CONFIG.vocab_size
