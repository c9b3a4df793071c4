"""The words that Spanish, French, Italian and Portuguese have for what stands beside figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Currency:
    one: str
    many: str
    gender: Literal["m", "f"] = "m"


@dataclass(frozen=True)
class Table:
    num2words: str
    """The language's name there."""
    point: str
    """Between a number and its decimals."""
    minus: str
    percent: str
    ones: Mapping[str, tuple[str, str]]
    """How a number ends before a noun: that ending, and the ones of men's and of women's nouns."""
    months: tuple[str, ...]
    date: str
    """Of `{day}`, `{month}` and `{year}`."""
    first: str
    """The first of a month."""
    time: str
    """Of `{hour}` and `{minute}`;"""
    full_hour: str
    """of `{hour}` alone."""
    cents: str
    """Of `{whole}` money and its `{cents}`."""
    currencies: Mapping[str, Currency]
    signs: Mapping[str, str]
    """Between words or figures."""


TABLES: Mapping[str, Table] = {
    "es": Table(
        num2words="es",
        point="coma",
        minus="menos",
        percent="por ciento",
        ones={"veintiuno": ("veintiún", "veintiuna"), "uno": ("un", "una")},
        months=(
            *("enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto"),
            *("septiembre", "octubre", "noviembre", "diciembre"),
        ),
        date="{day} de {month} de {year}",
        first="uno",
        time="{hour} y {minute}",
        full_hour="{hour}",
        cents="{whole} con {cents}",
        currencies={
            "€": Currency("euro", "euros"),
            "$": Currency("dólar", "dólares"),
            "£": Currency("libra", "libras", "f"),
            "¥": Currency("yen", "yenes"),
        },
        signs={"&": "y", "+": "más", "=": "igual a", "@": "arroba"},
    ),
    "fr": Table(
        num2words="fr",
        point="virgule",
        minus="moins",
        percent="pour cent",
        ones={"un": ("un", "une")},
        months=(
            *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août"),
            *("septembre", "octobre", "novembre", "décembre"),
        ),
        date="{day} {month} {year}",
        first="premier",
        time="{hour} heures {minute}",
        full_hour="{hour} heures",
        cents="{whole} {cents}",
        currencies={
            "€": Currency("euro", "euros"),
            "$": Currency("dollar", "dollars"),
            "£": Currency("livre", "livres", "f"),
            "¥": Currency("yen", "yens"),
        },
        signs={"&": "et", "+": "plus", "=": "égale", "@": "arobase"},
    ),
    "it": Table(
        num2words="it",
        point="virgola",
        minus="meno",
        percent="per cento",
        ones={"uno": ("un", "una")},
        months=(
            *("gennaio", "febbraio", "marzo", "aprile", "maggio", "giugno", "luglio", "agosto"),
            *("settembre", "ottobre", "novembre", "dicembre"),
        ),
        date="{day} {month} {year}",
        first="primo",
        time="{hour} e {minute}",
        full_hour="{hour}",
        cents="{whole} e {cents}",
        currencies={
            "€": Currency("euro", "euro"),
            "$": Currency("dollaro", "dollari"),
            "£": Currency("sterlina", "sterline", "f"),
            "¥": Currency("yen", "yen"),
        },
        signs={"&": "e", "+": "più", "=": "uguale a", "@": "chiocciola"},
    ),
    "pt": Table(
        num2words="pt_BR",
        point="vírgula",
        minus="menos",
        percent="por cento",
        ones={"um": ("um", "uma"), "dois": ("dois", "duas")},
        months=(
            *("janeiro", "fevereiro", "março", "abril", "maio", "junho", "julho", "agosto"),
            *("setembro", "outubro", "novembro", "dezembro"),
        ),
        date="{day} de {month} de {year}",
        first="primeiro",
        time="{hour} e {minute}",
        full_hour="{hour} horas",
        cents="{whole} e {cents}",
        currencies={
            "R$": Currency("real", "reais"),
            "€": Currency("euro", "euros"),
            "$": Currency("dólar", "dólares"),
            "£": Currency("libra", "libras", "f"),
            "¥": Currency("iene", "ienes"),
        },
        signs={"&": "e", "+": "mais", "=": "igual a", "@": "arroba"},
    ),
}
"""By the first part of a language's tag."""
