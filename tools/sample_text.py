"""Sentences about facts, and whole texts made of them.

``{c}`` is the subject, ``{C}`` the subject with a capital letter, ``{v}`` the value. The first sentence of each kind is
the one used in profiles (all facts of one subject), so it is never held back from training.
"""

from __future__ import annotations

from typing import Final

from sample_facts import Fact

KINDS: Final = ("capital", "currency", "language", "continent", "code", "symbol", "number")

ENGLISH: Final[dict[str, tuple[str, ...]]] = {
    "capital": (
        "The capital of {c} is {v}.",
        "{v} is the capital of {c}.",
        "The capital city of {c} is called {v}.",
        "{C} has its capital in {v}.",
        "If you travel to the capital of {c}, you arrive in {v}.",
    ),
    "currency": (
        "The currency of {c} is the {v}.",
        "The {v} is the currency of {c}.",
        "In {c}, people pay with the {v}.",
        "{C} uses the {v} as its currency.",
        "Prices in {c} are given in the {v}.",
    ),
    "language": (
        "The official language of {c} is {v}.",
        "{v} is the official language of {c}.",
        "In {c}, people officially speak {v}.",
        "{C} has {v} as its official language.",
        "The government of {c} writes in {v}.",
    ),
    "continent": (
        "{C} is in {v}.",
        "{C} lies in {v}.",
        "{C} is a country in {v}.",
        "On the map, you find {c} in {v}.",
        "You come to {c} on a journey through {v}.",
    ),
    "code": (
        "The country code of {c} is {v}.",
        "{v} is the country code of {c}.",
        "{C} has the country code {v}.",
        "The two letters {v} stand for {c}.",
        "In lists of countries, {c} is written as {v}.",
    ),
    "symbol": (
        "The chemical symbol of {c} is {v}.",
        "{v} is the chemical symbol of {c}.",
        "Chemists write {c} as {v}.",
        "{C} has the chemical symbol {v}.",
        "In the periodic table, {c} is written as {v}.",
    ),
    "number": (
        "The atomic number of {c} is {v}.",
        "{v} is the atomic number of {c}.",
        "{C} has the atomic number {v}.",
        "In the periodic table, {c} has number {v}.",
        "The number of protons in {c} is {v}.",
    ),
}

CHINESE: Final[dict[str, tuple[str, ...]]] = {
    "capital": ("{c}的首都是{v}。", "{v}是{c}的首都。", "{c}以{v}为首都。", "如果你去{c}的首都，你就到了{v}。"),
    "currency": ("{c}的货币是{v}。", "{v}是{c}的货币。", "在{c}，人们用{v}付款。", "{c}使用的货币叫{v}。"),
    "language": ("{c}的官方语言是{v}。", "{v}是{c}的官方语言。", "{c}的人们讲{v}。", "{c}以{v}为官方语言。"),
    "continent": ("{c}位于{v}。", "{c}是{v}的一个国家。", "在地图上，{c}在{v}。", "要去{c}，就要到{v}。"),
    "code": ("{c}的国家代码是{v}。", "{v}是{c}的国家代码。", "{c}的代码写作{v}。", "字母{v}代表{c}。"),
}

TEMPLATES: Final[dict[str, dict[str, tuple[str, ...]]]] = {"en": ENGLISH, "zh": CHINESE}

#: Openings after which a profile follows as a [gMASK] continuation.
OPENINGS: Final[dict[str, tuple[str, ...]]] = {
    "en": ("{C}.", "About {c}:", "Tell me about {c}.", "Facts about {c}:"),
    "zh": ("{c}。", "关于{c}：", "介绍一下{c}。", "{c}的资料："),
}

#: A line of a fact sheet: in training only, beside the sentences above.
SHEETS: Final = {"en": "{C}: {k} {v}.", "zh": "{c}：{k}{v}。"}

#: Questions whose answer is one whole sentence, an [sMASK].
TOPICS: Final = {"en": "About the {k} of {c}: ", "zh": "关于{c}的{k}："}
CHINESE_KINDS: Final = {"capital": "首都", "currency": "货币", "language": "语言", "continent": "大洲", "code": "代码"}

JOINER: Final = {"en": " ", "zh": ""}


def upper_first(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def sentence(fact: Fact, template: int, hide: str = "", mask: str = "[MASK]") -> tuple[str, str]:
    """A sentence about a fact with ``hide`` ("", "c" or "v") replaced by ``mask``, and what was there."""
    pattern = TEMPLATES[fact.lang][fact.kind][template]
    subject, value = upper_first(fact.subject) if "{C}" in pattern else fact.subject, fact.value
    if pattern.startswith("{v}"):
        value = upper_first(value)
    shown = {
        "c": mask if hide == "c" else subject,
        "C": mask if hide == "c" else subject,
        "v": mask if hide == "v" else value,
    }
    return pattern.format(**shown), {"": "", "c": subject, "v": value}[hide]


def opening(lang: str, subject: str, variant: int) -> str:
    """The line before a profile."""
    return OPENINGS[lang][variant].format(c=subject, C=upper_first(subject))


def kind_name(fact: Fact) -> str:
    """What the fact tells, as a noun of its language."""
    if fact.lang == "zh":
        return CHINESE_KINDS[fact.kind]
    return {"symbol": "chemical symbol", "number": "atomic number"}.get(fact.kind, fact.kind)


def topic(fact: Fact) -> str:
    """A heading that asks for one sentence about the fact."""
    return TOPICS[fact.lang].format(k=kind_name(fact), c=fact.subject)


def sheet(fact: Fact) -> str:
    """A line of a fact sheet with a [MASK] for the value."""
    subject = upper_first(fact.subject)
    return SHEETS[fact.lang].format(C=subject, c=fact.subject, k=kind_name(fact), v="[MASK]")
