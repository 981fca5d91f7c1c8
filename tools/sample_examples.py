"""Training examples and held-back questions: texts with masks and what belongs there, seeded by one number.

What is held back: whole sentences (of facts that are seen in other sentences), an opening per subject, and which
sentence of a profile is missing. No training text contains any of them.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sample_facts import Fact
from sample_text import JOINER, KINDS, OPENINGS, TEMPLATES, opening, sentence, sheet, topic

#: "Brazil has" and "巴西以" begin sentences of two kinds: no ending of them alone is right.
AMBIGUOUS = re.compile(r" has \[MASK\]|以\[MASK\]")


@dataclass(frozen=True)
class Example:
    """A text with masks. ``answers`` fill its masks in order; a text that ends in [gMASK] has its continuation."""

    text: str
    answers: tuple[str, ...]
    lang: str
    kind: str


class Writer:
    """Writes examples about facts. ``held=True`` writes what training never sees, else what it may see."""

    def __init__(self, facts: list[Fact], seed: int) -> None:
        self.rng = random.Random(seed)
        self.facts = facts
        self.profiles: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in sorted(facts, key=lambda f: KINDS.index(f.kind)):
            self.profiles[fact.lang, fact.subject].append(fact)
        self.held_template = {
            fact: self.rng.randrange(1, len(TEMPLATES[fact.lang][fact.kind])) if self.rng.random() < 0.3 else -1
            for fact in facts
        }
        subjects = list(self.profiles)
        self.held_opening = {s: self.rng.randrange(4) if self.rng.random() < 0.4 else -1 for s in subjects}
        self.held_gap = {
            s: self.rng.randrange(len(f)) if self.rng.random() < 0.4 else -1 for s, f in self.profiles.items()
        }
        self.held_facts = {
            lang: [f for f in facts if f.lang == lang and self.held_template[f] >= 0] for lang in ("en", "zh")
        }
        self.by_kind: dict[tuple[str, str], list[Fact]] = defaultdict(list)
        for fact in facts:
            self.by_kind[fact.lang, fact.kind].append(fact)

    # ---- choosing

    def fact(self, lang: str, held: bool) -> Fact:
        """A fact; when not held back, of each kind about as often."""
        return self.rng.choice(self.held_facts[lang] if held else self.facts_of(lang))

    def facts_of(self, lang: str) -> list[Fact]:
        kinds = [k for k in KINDS if (lang, k) in self.by_kind]
        # An element's name is met in two kinds of facts, a country's in five.
        weights = [2.5 if k in ("symbol", "number") else 1.0 for k in kinds]
        return self.by_kind[lang, self.rng.choices(kinds, weights)[0]]

    def template(self, fact: Fact, held: bool) -> int:
        """The held-back template, or one of the others."""
        hidden = self.held_template[fact]
        if held:
            return hidden
        return self.rng.choice([t for t in range(len(TEMPLATES[fact.lang][fact.kind])) if t != hidden])

    def subject(self, lang: str, held: dict[tuple[str, str], int] | None = None) -> tuple[str, str]:
        """A subject; with ``held`` one that has something held back there."""
        pool = [
            s for s in self.profiles if s[0] == lang and len(self.profiles[s]) > 1 and (held is None or held[s] >= 0)
        ]
        return self.rng.choice(pool)

    # ---- kinds of examples

    def blank(self, lang: str, held: bool, hide: str = "v") -> Example:
        """One [MASK] for the value, or for the subject where only one fits."""
        while True:
            fact = self.fact(lang, held)
            if hide == "v" or fact.unique:
                text, answer = sentence(fact, self.template(fact, held), hide)
                if (
                    not held and hide == "v" and self.rng.random() < 0.15
                ):  # the name at two places, in English as "Gold" and "gold"
                    text = JOINER[lang].join((opening(lang, fact.subject, 0), text))
                return Example(text, (answer,), lang, fact.kind if hide == "v" else "which-" + fact.kind)

    def line(self, lang: str, held: bool) -> Example:
        """A line of a fact sheet; never held back."""
        fact = self.fact(lang, held)
        return Example(sheet(fact), (fact.value,), lang, fact.kind)

    def pair(self, lang: str, held: bool) -> Example:
        """Two sentences, a [MASK] in each."""
        first, second = (self.blank(lang, held, "c" if self.rng.random() < 0.3 else "v") for _ in range(2))
        if lang == "en" and self.rng.random() < 0.5 and second.text.startswith("The "):
            text = first.text[:-1] + " and t" + second.text[1:]
        else:
            text = first.text + JOINER[lang] + second.text
        return Example(text, first.answers + second.answers, lang, "two-blanks")

    def span(self, lang: str, held: bool) -> Example:
        """A [MASK] for any few words (English) or characters (Chinese) of a sentence: GLM's own objective."""
        fact = self.fact(lang, held)
        text, _ = sentence(fact, self.template(fact, held))
        units = text.split(" ") if lang == "en" else list(text)
        start = self.rng.randrange(len(units))
        stop = min(len(units), start + self.rng.randrange(1, 4 if lang == "en" else 6))
        glue = JOINER[lang]
        before, after = glue.join(units[:start]), glue.join(units[stop:])
        return Example(f"{before}{glue}[MASK]{glue}{after}".strip(), (glue.join(units[start:stop]),), lang, "span")

    def ending(self, lang: str, held: bool) -> Example:
        """A [gMASK] after the beginning of one sentence."""
        fact = self.fact(lang, held)
        template = self.template(fact, held)
        text, _ = sentence(fact, template)
        subject, value = (sentence(fact, template, hide)[0] for hide in "cv")
        if held and (AMBIGUOUS.search(value) or (subject.find("[MASK]") > value.find("[MASK]") and not fact.unique)):
            return self.ending(lang, held)
        if held or self.rng.random() < 0.5:
            cut = max(subject.find("[MASK]"), value.find("[MASK]"))
        elif lang == "en":
            cut = self.rng.choice([i for i, c in enumerate(text) if c == " "])
        else:
            cut = self.rng.randrange(1, len(text))
        return Example(text[:cut].strip() + " [gMASK]", (text[cut:].strip(),), lang, "ending")

    def profile(self, lang: str, held: bool) -> Example:
        """A [gMASK] after an opening (and perhaps some sentences): all (other) facts of that subject."""
        subject = self.subject(lang, self.held_opening if held else None)
        hidden = self.held_opening[subject]
        variant = hidden if held else self.rng.choice([v for v in range(len(OPENINGS[lang])) if v != hidden])
        lines = [sentence(fact, 0)[0] for fact in self.profiles[subject]]
        told = 0 if held else max(0, self.rng.randrange(-3, len(lines)))
        head = JOINER[lang].join([opening(lang, subject[1], variant), *lines[:told]])
        return Example(head + " [gMASK]", (JOINER[lang].join(lines[told:]),), lang, "profile")

    def missing(self, lang: str, held: bool) -> Example:
        """An [sMASK] for a sentence of a profile, or for the answer to a heading."""
        if not held and self.rng.random() < 0.4:
            fact = self.fact(lang, held)
            return Example(topic(fact) + "[sMASK]", (sentence(fact, 0)[0],), lang, "sentence")
        subject = self.subject(lang, self.held_gap if held else None)
        lines = [sentence(fact, 0)[0] for fact in self.profiles[subject]]
        hidden = self.held_gap[subject]
        gap = hidden if held else self.rng.choice([i for i in range(len(lines)) if i != hidden])
        shown = [opening(lang, subject[1], 0), *lines[:gap], "[sMASK]", *lines[gap + 1 :]]
        return Example(JOINER[lang].join(shown), (lines[gap],), lang, "sentence")

    # ---- collections

    def training(self, count: int) -> Iterator[Example]:
        """``count`` examples of all kinds."""
        kinds: tuple[tuple[Callable[..., Example], tuple[object, ...], int], ...] = (
            (self.blank, ("v",), 32),
            (self.line, (), 10),
            (self.blank, ("c",), 12),
            (self.pair, (), 18),
            (self.span, (), 6),
            (self.ending, (), 8),
            (self.profile, (), 8),
            (self.missing, (), 6),
        )
        chosen = self.rng.choices(kinds, weights=[weight for _, _, weight in kinds], k=count)
        for write, args, _ in chosen:
            example = write("en" if self.rng.random() < 0.55 else "zh", False, *args)
            if example.text[-1] in ".。" and "MASK]" in example.text[-7:-1] and self.rng.random() < 0.25:
                example = Example(example.text[:-1], example.answers, example.lang, example.kind)
            yield example

    def questions(self) -> list[Example]:
        """200 held-back questions, all different."""
        plan: tuple[tuple[Callable[..., Example], tuple[object, ...], int, int], ...] = (
            (self.blank, ("v",), 62, 50),
            (self.blank, ("c",), 12, 12),
            (self.pair, (), 12, 12),
            (self.ending, (), 6, 6),
            (self.profile, (), 7, 7),
            (self.missing, (), 7, 7),
        )
        questions: dict[str, Example] = {}
        for write, args, english, chinese in plan:
            for lang, count in (("en", english), ("zh", chinese)):
                goal = len(questions) + count
                while len(questions) < goal:
                    example = write(lang, True, *args)
                    questions.setdefault(example.text, example)
        return list(questions.values())


def corpus(facts: list[Fact], border: str) -> Iterator[str]:
    """Every sentence and piece of text that the vocabulary must spell.

    In Chinese ``border`` stands wherever a subject or a value meets other text: pieces that join both ("法国的首都是")
    would each have to learn the facts of its own. English words have their spaces.
    """
    for fact in facts:
        edge = border if fact.lang == "zh" else ""
        marked = Fact(fact.lang, fact.kind, edge + fact.subject + edge, edge + fact.value + edge, fact.unique)
        start = edge  # keeps the space that SentencePiece puts before a text apart from Chinese words
        yield from (start + sentence(marked, template)[0] for template in range(len(TEMPLATES[fact.lang][fact.kind])))
        yield from (marked.subject, marked.value, start + topic(marked))
        yield from (start + opening(fact.lang, marked.subject, variant) for variant in range(len(OPENINGS[fact.lang])))
