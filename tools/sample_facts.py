"""Checkable facts in English and Chinese, from packages with public data.

Countries: capital (countryinfo; Chinese names: CLDR's exemplar cities through babel), currency, official language,
continent (CLDR and countryinfo), ISO 3166 code (pycountry). Chemical elements: symbol and atomic number
(periodictable). Only facts with one clear answer are kept; the tables below say where a package is out of date.

    pip install babel==2.18.0 pycountry==26.2.16 countryinfo==1.0.1 periodictable==2.1.0
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Territories without a government of their own, or whose capital or borders are disputed.
SKIPPED = set(
    "AI AQ AS AW AX BL BM BQ BV CC CK CW CX EH FK FO GF GG GI GL GP GS GU HK HM IL IM IO JE KY MF MO MP MQ MS NC NF NU "
    "PF PM PN PR PS RE SH SJ SX TC TF TK TW UM VA VG VI WF XK YT".split()
)
#: Several capitals, or one that has moved since the package was made.
SKIPPED_CAPITALS = set("BI LK SZ GQ BO ZA NR ID".split())
#: Currencies in change, and countries where the law names more languages than CLDR's list.
SKIPPED_CURRENCIES = {"BG", "CW"}
SKIPPED_LANGUAGES = set("NZ ZA ET SS SN GM LR AO GW ME".split())
ENGLISH_NAMES = {"MM": "Myanmar", "CI": "Ivory Coast", "BA": "Bosnia and Herzegovina"}
ENGLISH_CAPITALS = {"KZ": "Astana", "SM": "San Marino", "US": "Washington"}
WITH_ARTICLE = set("US GB NL PH AE BS MV CF DO GM KM MH SB SC".split())
#: Capitals that are no zone's exemplar city, so CLDR has no Chinese name for them.
CHINESE_CAPITALS = dict(
    pair.split(":")
    for pair in (
        "CN:北京 US:华盛顿 CA:渥太华 AU:堪培拉 NZ:惠灵顿 BR:巴西利亚 IN:新德里 CH:伯尔尼 TR:安卡拉 VN:河内 UA:基辅 "
        "AR:布宜诺斯艾利斯 CO:波哥大 EC:基多 MA:拉巴特 NG:阿布贾 PK:伊斯兰堡 KZ:阿斯塔纳 MM:内比都 YE:萨那 "
        "KW:科威特城 QA:多哈 OM:马斯喀特 AE:阿布扎比 BH:麦纳麦 CM:雅温得 TZ:多多马 CR:圣何塞 AL:地拉那 MT:瓦莱塔 "
        "MD:基希讷乌 NP:加德满都 ER:阿斯马拉 JM:金斯敦 PA:巴拿马城"
    ).split()
)
CONTINENT_CODES = {"Africa": "002", "Americas": "019", "Asia": "142", "Europe": "150", "Oceania": "009"}


@dataclass(frozen=True)
class Fact:
    """``value`` answers ``kind`` about ``subject`` in language ``lang``; ``unique``: no other subject has it."""

    lang: str
    kind: str
    subject: str
    value: str
    unique: bool


def country_facts() -> list[tuple[str, str, str, str]]:
    """(lang, kind, subject, value) of every country that is not skipped, in a fixed order."""
    import pycountry
    from babel import Locale
    from countryinfo import CountryInfo

    english, chinese = Locale("en"), Locale("zh")
    facts = []
    for country in sorted(pycountry.countries, key=lambda c: c.alpha_2):
        code = country.alpha_2
        name = ENGLISH_NAMES.get(code, english.territories[code])
        if code in SKIPPED or not set(name).isdisjoint("(&.") or " - " in name:
            continue
        info: Any = CountryInfo(code)
        name, zh_name = ("the " if code in WITH_ARTICLE else "") + name, chinese.territories[code]
        values = {
            "capital": capital(code, ENGLISH_CAPITALS.get(code, info.capital())),
            "currency": currency(code, english, chinese),
            "language": language(code, english, chinese),
            "continent": continent(info.region(), chinese),
            "code": (code, code),
        }
        for kind, (value, zh_value) in values.items():
            if value:
                facts.append(("en", kind, name, value))
            if zh_value and "（" not in zh_name:
                facts.append(("zh", kind, zh_name, zh_value))
    return facts


def capital(code: str, name: str) -> tuple[str | None, str | None]:
    """The capital's names: the Chinese one from the zone of that name in that country, else from the table above."""
    from babel.core import get_global
    from babel.dates import get_timezone_location

    if code in SKIPPED_CAPITALS:
        return None, None
    for zone, territory in sorted(get_global("zone_territories").items()):
        if territory == code and zone.split("/")[-1].replace("_", " ") == name:
            zh_name = str(get_timezone_location(zone, locale="zh", return_city=True))
            if not any(c.isascii() for c in zh_name):
                return name, zh_name
    return name, CHINESE_CAPITALS.get(code)


def currency(code: str, english: Any, chinese: Any) -> tuple[str | None, str | None]:
    """The names of the currency, where there is exactly one."""
    from babel.numbers import get_territory_currencies

    codes = get_territory_currencies(code)
    if len(codes) != 1 or code in SKIPPED_CURRENCIES:
        return None, None
    return english.currencies.get(codes[0]), chinese.currencies.get(codes[0])


def language(code: str, english: Any, chinese: Any) -> tuple[str | None, str | None]:
    """The names of the official language, where there is exactly one (in whatever script)."""
    from babel.languages import get_official_languages

    tongues = sorted({tag.split("_")[0] for tag in get_official_languages(code)})
    if len(tongues) != 1 or code in SKIPPED_LANGUAGES:
        return None, None
    return english.languages.get(tongues[0]), chinese.languages.get(tongues[0])


def continent(region: str, chinese: Any) -> tuple[str | None, str | None]:
    """The continent's names; CLDR has them under the UN's M49 numbers."""
    article = "the " if region == "Americas" else ""
    return article + region, chinese.territories[CONTINENT_CODES[region]]


def element_facts() -> list[tuple[str, str, str, str]]:
    """(lang, kind, subject, value) of the chemical elements from hydrogen to oganesson."""
    import periodictable

    facts = []
    for element in periodictable.elements:
        if element.number:
            facts.append(("en", "symbol", element.name, element.symbol))
            facts.append(("en", "number", element.name, str(element.number)))
    return facts


def collect() -> list[Fact]:
    """All facts, in a fixed order."""
    rows = [row for row in country_facts() + element_facts() if row[2].isprintable()]
    count = Counter((lang, kind, value) for lang, kind, _, value in rows)
    return [Fact(*row, unique=count[row[0], row[1], row[3]] == 1) for row in rows]


def save(facts: list[Fact], path: Path) -> None:
    """Write the facts as JSON, one a line."""
    lines = ",\n".join(json.dumps(asdict(fact), ensure_ascii=False) for fact in facts)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
