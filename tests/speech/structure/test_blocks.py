from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rows import rows
from tts_provider.speech.structure.blocks import NOT_SPEECH, BlockParser
from tts_provider.speech.structure.plain_text import PlainText


def plain_of(*pieces: str, aloud: tuple[str, ...] = (), tags: bool = False) -> PlainText:
    structure, plain = BlockParser(aloud, tags=tags), PlainText()
    for piece in pieces:
        plain.extend(structure.push(piece))
    plain.extend(structure.flush())
    assert structure.characters == 0
    return plain


INLINE = [
    ("**bold** _it_ ***both*** ~~no~~ ==mark== `code`", "bold it both no mark code"),
    ("snake_case and 2*3*4 and 10**2 and x*y", None),
    ("a * b == c, x==y", None),
    ("~/.bashrc ~5 C:\\Users\\me", None),
    ("`a*b_c`", "a*b_c"),
    ("``b`` and ```c```", "b and c"),
    ("a\\*b 1\\. x", "a*b 1. x"),
    ("[a link](https://x.com/y_(z) 'title') here", "a link here"),
    ("[text][ref] and [array]", "text and [array]"),
    ("[**bold**](x) [![badge](a)](b)", "bold badge"),
    ("![alt text](https://x.org/a.png)", "alt text"),
    ("![](https://x.org)", ""),
    ("Wow![1] Yes", "Wow! Yes"),
    ("as said [1], [2, 3] and [4-6].", "as said, and."),
    ("so[[1]](https://w.org)[^2] it is【3†source】.", "so it is."),
    ("<https://x.org/a_b> <me@x.org>", "https://x.org/a_b me@x.org"),
    ("<b>bold</b> <i>it</i> <img src='x' alt='a cat'>", "bold it a cat"),
    ("x < y and y > z", None),
    ("say <your name> now", None),
    ("<name>, hi", "name, hi"),
    ("R&amp;D &lt;b&gt; &#39;x&#39;&nbsp;y &unknown;", "R&D <b> 'x' y &unknown;"),
    ("a <!-- hidden --> b", "a b"),
    ("Hi 👩‍🚀 there ❤️! 1️⃣ 🇩🇪 ok", "Hi there! 1 ok"),
    ("5 ★ ✓ © ℃", None),
    ("Hello :) there ;-) :D", "Hello there"),
    ("at 10:30; then", None),
    ("\\(x^2\\) and $\\frac{a}{b}$ cost $5 and $10", "x^2 and a over b cost $5 and $10"),
    ("a\u200b\ufeffb\x07c", "ab c"),
    ("می\u200cخواهم", None),
]
BLOCKS = [
    ("# Head #\nText", "Head\n\nText"),
    ("Title\n=====\nText\n\n---\n\nmore", "Title\n\nText\n\nmore"),
    ("- a\n- b\n  more of b\nnew", "a\n\nb\nmore of b\n\nnew"),
    ("* [ ] todo\n+ [x] done\n• dot", "todo\n\ndone\n\ndot"),
    ("1. one\n2) two\na) three", "1, one\n\n2, two\n\na, three"),
    ("> quote\n> goes on\n\nend", "quote\ngoes on\n\nend"),
    ("> - # deep", "deep"),
    ("| a | b |\n|---|:-:|\n| c | |", "a, b\n\nc"),
    ("a | b", "a, b"),
    ("Before\n```python\nx = 1\n```\nafter", "Before\n\nafter"),
    ("~~~\nx\n```\n~~~~\nafter", "after"),
    ("```\nunclosed", ""),
    ("[ref]: https://x.org 'T'\nText [^1]\n\n[^1]: The note.", "Text\n\nThe note."),
    ("<p>One</p><ul><li>two<li>three</ul>four<br>five", "One\n\ntwo\n\nthree\n\nfour\n\nfive"),
    ("<think>hm\n\n- x</think>Answer", "Answer"),
    ("<pre><code>x</code></pre>y<script>z</script>", "y"),
    ("wrapped lines\nof prose", "wrapped lines\nof prose"),
    (
        "Roses are red\nViolets are blue\nI know\nMilk",
        "Roses are red\n\nViolets are blue\nI know\n\nMilk",
    ),
    ("In the wood,\nAnd then", "In the wood,\nAnd then"),
    ("第一行\n第二行", "第一行\n\n第二行"),
    ("one\r\n\r\ntwo", "one\n\ntwo"),
]


@rows(("text", "plain"), [*INLINE, *BLOCKS])
def test_plain_text(text, plain):
    expected = text if plain is None else plain
    assert plain_of(text).text == expected
    assert plain_of(*text).text == expected


@rows(
    ("what", "text", "plain"),
    [
        ("code", "a\n```\nx = 1\ny\n```\nb", "a\n\nx = 1\n\ny\n\nb"),
        ("links", "[a](http://b.c)", "a, http://b.c"),
        ("citations", "so [1].", "so [1]."),
        ("thinking", "<think>hm</think>yes", "hm\n\nyes"),
        ("comments", "a <!-- b", "a b"),
    ],
)
def test_what_is_no_speech_is_spoken_where_it_is_asked_for(what, text, plain):
    assert what in NOT_SPEECH
    assert plain_of(text, aloud=(what,)).text == plain
    assert plain not in plain_of(text).text


def test_every_character_knows_where_it_was_written():
    text = "# **Hi** [you](x) &amp; `me` 😀 ok"
    plain = plain_of(text)
    assert plain.text == "Hi you & me ok"
    words = {}
    for word in plain.text.split():
        at = plain.text.index(word)
        start, end = plain.span(at, at + len(word))
        words[word] = text[start:end]
    assert words == {"Hi": "Hi", "you": "you", "&": "&amp;", "me": "me", "ok": "ok"}


TAGS = [
    ('Hold on.<break time="1.5s" />Done', "Hold on.\n\nDone", [1.5]),
    ("a & b <BREAK time='20ms'>c", "a & b\n\nc", [0.02]),
    ('a<break time="99s"/>b', "a\n\nb", [10.0]),
    ('a <break time="soon"/> b <break/> c', "a b c", []),
    ("It is <spell>Ab-1</spell>.", "It is A b - one.", []),
    ("<spell>a<b>c</b></spell>", "spell ac", []),
]


@rows(("text", "plain", "pauses_s"), TAGS)
def test_tags_of_speech_services_in_a_text_that_is_no_ssml(text, plain, pauses_s):
    found = plain_of(text, tags=True)
    assert (found.text, [pause_s for _, pause_s, _ in found.pauses]) == (plain, pauses_s)
    assert plain_of(*text, tags=True) == found
    assert plain_of(text).pauses == []


PIECES = [
    *' .,;:!?-_*`#~|()[]{}<>@&+=$"\n015Aé你٣😀\u200d\u0301\ufe0f\r\\',
    *("**", "```", "\n```\n", "\n\n", "\n- ", "\n1. ", "> ", "[a](b)", "![", "](", "<b>", "<br>"),
    *(
        "<think>",
        "</think>",
        "<!--",
        "-->",
        "&amp;",
        "\\(",
        "$x^2$",
        "[1]",
        "[ ] ",
        "\n| a | b |\n",
    ),
    *("# ", "http://x.org", "👩‍🚀", "snake_case", "a*b", "I ", "\nWord", "[x]: http://a.b\n"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.data())
def test_pieces_are_read_as_the_whole_is(text, data):
    whole = plain_of(text)
    assert plain_of(*text) == whole
    cut = data.draw(st.integers(0, len(text)))
    assert plain_of(text[:cut], text[cut:]) == whole
    assert len(whole.starts) == len(whole.ends) == len(whole.text)
    assert whole.starts == sorted(whole.starts)
    assert all(0 <= a <= b <= len(text) for a, b in zip(whole.starts, whole.ends, strict=True))


@given(st.text())
def test_any_text_has_a_plain_one(text):
    plain_of(text)


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "*",
            "_",
            "`",
            "[",
            "![",
            "[![",
            "[a](",
            "<",
            "<a ",
            '<a b="',
            "<!--",
            "&",
            "&a",
            "$",
            "$x",
        ),
        *("\\", "\\(", "|", "\n|", "\n#", "\n- ", "- ", "1. ", "\n> ", ":)", "😀", "\u200d", "a\n"),
        *("```\n", "<think>", "【", "~", "=", "\r", " ", "[a]: ", "\u0301", "\x00"),
    ],
)
def test_hostile_repetition_returns(piece):
    """Under quadratic time these would take minutes."""
    text = piece * (20_000 // len(piece))
    structure = BlockParser()
    structure.push(text)
    structure.flush()
    for character in text:
        structure.push(character)
    structure.flush()
