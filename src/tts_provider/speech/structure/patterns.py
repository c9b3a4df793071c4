"""Patterns of Markdown, HTML and what chat has, each bounded, so that little text is held back."""

from __future__ import annotations

import string

import regex

# --- The beginning of a line: tried in this order ------------------------------------------------

BLANK = regex.compile(r"[ \t]{0,40}(?:\n|\r\n?)")
_BULLET = r"[-+*•‣◦·–—▪●○]"
BLOCKS = {
    "quote": regex.compile(r"[ \t]{0,40}>[ \t]{0,4}"),
    "fence": regex.compile(r"[ \t]{0,40}(?P<ticks>`{3,40}|~{3,40})[^`\n]{0,200}\n"),
    "rule": regex.compile(r"[ \t]{0,40}[-=*_~|:+][-=*_~|:+ \t]{1,400}\r?\n"),
    "definition": regex.compile(
        r"[ \t]{0,40}\[[^\[\]\n^]{1,100}\]:[ \t]{0,4}(?=\w{1,20}:/|[/<#.])\S{1,2000}"
        r"(?:[ \t]{1,4}[\"'(][^\n]{0,200})?\r?\n"
    ),
    "label": regex.compile(r"[ \t]{0,40}\[\^[^\[\]\n]{1,100}\]:[ \t]{0,4}"),
    "heading": regex.compile(r"[ \t]{0,40}#{1,6}[ \t]{1,8}"),
    "item": regex.compile(rf"[ \t]{{0,40}}{_BULLET}[ \t]{{1,8}}"),
    "number": regex.compile(r"[ \t]{0,40}(?P<mark>[0-9]{1,3}|[a-zA-Z](?=\)))[.)][ \t]{1,8}"),
    "row": regex.compile(r"[ \t]{0,40}\|"),
}
CHECKBOX = regex.compile(r"\[[ xX]\][ \t]")
INDENT = regex.compile(r"[ \t]{0,40}")
BLOCKS_AT = {
    ">": ("quote",),
    "`": ("fence",),
    "~": ("fence", "rule"),
    **dict.fromkeys("=_:", ("rule",)),
    **dict.fromkeys("-+*", ("rule", "item")),
    "|": ("rule", "row"),
    **dict.fromkeys("•‣◦·–—▪●○", ("item",)),
    "[": ("definition", "label"),
    "#": ("heading",),
    **dict.fromkeys(string.digits + string.ascii_letters, ("number",)),
}
"""What may begin with a character, in the order it is tried."""
WHOLE_LINES = ("fence", "rule", "definition")
OTHER = regex.compile(r"(?P<indent>[ \t]{0,40})[*_~`\"'“‘«(\[¿¡<]{0,6}(?:I\b|(?P<first>.))")


def end_of_fence(ticks: str) -> regex.Pattern[str]:
    return regex.compile(rf"[ \t>]{{0,40}}{ticks[0]}{{{len(ticks)},40}}[ \t]{{0,40}}(?:\r?\n|\Z)")


# --- Within a line -------------------------------------------------------------------------------

_PICTURES = r"\p{Extended_Pictographic}\U0001f1e6-\U0001f1ff"
_JOINERS = r"\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
_SPOKEN = rf"[^\s*_~`(\[\]!<&\\$:;|#=【\p{{Cc}}\p{{Cf}}\p{{Co}}\p{{Cs}}{_PICTURES}{_JOINERS}]+"
RUN = regex.compile(rf"{_SPOKEN}(?: {_SPOKEN})*+")
SPACE = regex.compile(r"[^\S\n\r\x0b\x0c\x85\u2028\u2029]+")
NEWLINE = regex.compile(r"\r\n?|[\n\x0b\x0c\x85\u2028\u2029]")
CODE = regex.compile(r"(`{1,40})(?!`)(?P<code>[^`\n]{1,400})\1(?!`)")
TICKS = regex.compile(r"`{1,40}")
EMPHASIS = regex.compile(r"([*_~=])\1{0,40}")
_TARGET = (
    r"\((?P<target>[^()\s]{0,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,200})?)"
    r"(?:[ \t]{1,4}[\"'][^\"\n]{0,300}[\"'])?\)"
)
# What is in an image could be read as characters too: possessive, or n images take 2^n attempts.
LINK = regex.compile(
    r"!?\[(?P<text>(?:!\[[^\[\]\n]{0,300}\]\([^()\s]{0,2000}\)|\[[^\[\]\n]{0,20}\]|[^\[\]\n]){0,400}+)"
    rf"\](?:{_TARGET}|\[[^\[\]\n]{{0,100}}\])"
)
CITATION = regex.compile(
    r"\[(?:\^[^\[\]\n]{1,60}|[1-9][0-9]{0,2}(?:[ \t]?[-,;–][ \t]?[1-9][0-9]{0,2}){0,20}"
    r"|(?i:citation needed|note [0-9]{1,3}))\](?![(\[:\w])"
    r"|【[^【】\n]{1,80}†[^【】\n]{0,80}】"
)
_VALUE = r"(?:\"[^\"<]{0,1000}\"|'[^'<]{0,1000}'|[^\s\"'<>=]{1,1000})"
TAG = regex.compile(
    r"<(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9:-]{0,40})"
    rf"(?P<attributes>(?:={_VALUE}?)?(?:\s{{1,10}}[\w:@.-]{{1,60}}\s{{0,4}}=\s{{0,4}}{_VALUE}"
    r"|\s{1,10}(?:open|hidden|disabled|checked|selected|async|defer|controls)"
    r"){0,20})\s{0,10}(?P<empty>/?)>"
)
ALT = regex.compile(r"""\balt\s?=\s?(?:"(?P<alt>[^"]*)"|'(?P<alt>[^']*)')""")
AUTOLINK = regex.compile(
    r"<(?P<address>(?:https?://|mailto:)[^\s<>]{1,2000}|[^\s<>@:/]{1,100}@[^\s<>@]{1,200})>"
)
COMMENT = regex.compile(r"<!--")
END_OF_COMMENT = regex.compile(r"-->")
DECLARATION = regex.compile(r"<[!?][A-Za-z\[][^<>]{0,400}>")
ENTITY = regex.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")
FORMULA = regex.compile(
    r"\\\((?P<a>[^\n]{1,400}?)\\\)|\\\[(?P<b>[^\[\]]{1,1000}?)\\\]|\$\$(?P<c>[^$]{1,1000})\$\$"
    r"|(?<!\w)\$(?=[^\s$0-9]|[0-9][^\s$]{0,60}\$)(?P<d>[^$\n]{1,200})(?<![\s\\])\$(?![0-9\p{L}])"
)
IS_FORMULA = regex.compile(r"[\\^_={}<>+*]|^[A-Za-z]$")
ESCAPE = regex.compile(r"(?<![:\\])\\([*_~`\[\]()#+!|<>{}$-]|(?<=[0-9]\\)\.)")
EMOTICON = regex.compile(r"[:;]['’]?-?[()DPp](?!\w)")
CLOSING_HASHES = regex.compile(r"#{1,6}[ \t]{0,8}(?=[\n\r])")
PICTURE = regex.compile(rf"(?:[{_PICTURES}][{_JOINERS}]{{0,20}}\u200d?){{1,40}}|[{_JOINERS}]")
SPEAKABLE_PICTURES = frozenset("↔©®™ℹ★☆✓✔✗✘♀♂‼⁉〰Ⓜ㊗㊙♠♣♥♦♭♮♯")
"""Those that have a name in a text."""
INVISIBLE = frozenset("\xad\u200b\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff") | {
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
}

# --- HTML's elements -----------------------------------------------------------------------------

LEFT_OUT = {
    **dict.fromkeys(("script", "style", "svg"), "comments"),
    "pre": "code",
    **dict.fromkeys(("think", "thinking", "thought", "reasoning"), "thinking"),
}
"""Elements whose content is no speech, and what it is."""
BREAKS = frozenset(
    """
    p br div li ul ol dl dt dd h1 h2 h3 h4 h5 h6 tr table thead tbody hr blockquote section article
    header footer nav main aside body html head title form details summary figure figcaption option
    select pre think thinking thought reasoning
    """.split()  # noqa: SIM905
)
CELLS = frozenset(("td", "th"))
INLINE = frozenset(
    """
    a abbr b bdi bdo big button cite code data del dfn em font i img input ins kbd label mark q rp
    rt ruby s samp small span strike strong sub sup time tt u var wbr
    """.split()  # noqa: SIM905
)


# --- What speech services have within an ordinary text -------------------------------------------

PAUSE = regex.compile(r"\[pause[: ] {0,2}(?P<time>[0-9.]{1,8} {0,1}m?s)\]", regex.IGNORECASE)
VOICE = regex.compile(r"\[voice: {0,2}(?P<name>[^\[\]\n]{0,200})\]", regex.IGNORECASE)
"""`[voice:af_heart]`; without a name, who was asked for."""
_ACTS = (
    "laughs(?: softly| nervously| quietly| loudly)?|chuckles|giggles|snickers"
    "|sighs(?: heavily| deeply| softly)?"
    "|gasps|coughs|sniffs|sniffles|groans|yawns|whispers|clears throat|inhales|exhales|breathes"
    "|takes a (?:deep )?breath|sobs|snorts|moans|screams"
)
_NAMED_ACTS = (
    "laugh|laughing|laughter|chuckle|chuckling|giggle|giggling|sigh|sighing|gasp|cough|coughing|sniff"
    "|sniffle|groan|yawn|yawning|whisper|whispering|whispered|clear throat|clearing throat|inhale"
    "|exhale|breath|breathing|breathe|deep breath|sob|sobbing|crying|cries|snort|moan|scream|shouts"
    "|shouting|singing|sings|hums|humming|applause|music|excited|sarcastic|angry|sad|happy|nervous"
)
ACT = regex.compile(
    rf"\[(?:{_ACTS}|{_NAMED_ACTS})\]|\((?:{_ACTS})\)|<(?:{_ACTS}|{_NAMED_ACTS})/?>"
    rf"|\*(?:{_ACTS}|sigh|cough|gasp|yawn|gulp|sniff|sob)\*",
    regex.IGNORECASE,
)
"""What a speaker is to do: some engines can."""
PHONEMES = regex.compile(
    r"\[(?P<text>[^\[\]\n]{1,200})\]\(/(?P<ipa>(?=[^()/\n]{0,199}[^\x00-\x7f])[^()/\n]{1,200})/\)"
)
"""`[Kokoro](/kˈOkəɹO/)`; an address on the same server is ASCII."""
BREAK_TIME = regex.compile(r"""\btime\s?=\s?["']?([0-9.]{1,20}m?s)""")
SPELL = regex.compile(r"<spell>(?P<text>[^<]{0,200})</spell>", regex.IGNORECASE)


# [HH AH0 L OW1]
_ARPABET = r"\[(?=[^\]]{0,120}[0-2])[A-Z]{1,2}[0-2]?(?: [A-Z]{1,2}[0-2]?){1,40}\]"
KEPT_ACT = regex.compile(rf"(?i:{ACT.pattern}|{TAG.pattern})|{_ARPABET}")
"""What an engine that acts is given as it is written."""


def is_act(tag: regex.Match[str]) -> bool:
    """Whether a tag that HTML has not, and that is no "<your name>", is an engine's own."""
    name = tag["name"].lower()
    is_known = name in LEFT_OUT or name in ("img", "break", "spell")
    is_html = name in BREAKS or name in CELLS or name in INLINE
    return not (is_known or is_html) and bool(tag["close"] or tag["empty"] or tag["attributes"])


def end_of_element(name: str) -> regex.Pattern[str]:
    return regex.compile(rf"</{regex.escape(name)}\s{{0,10}}>", regex.IGNORECASE)
