"""Texts made to hurt whoever reads them: how much CPU time each takes, and how it grows.

    python benchmarks/hazards/texts.py [--texts 50000] [--seed 0]

A text is a beginning, a fragment again and again, and an end; the fragments are made of every mark
that a pattern of ours mentions. It is read at 1250 and 2500 characters in every way that a client
can ask for; what grows faster than its length, or is slow already, is read at 20 000 too, as is one
in fifty of the others. Reading happens in a process that is ended when a text takes too long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import multiprocessing
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

from floods import compare
from hoards import send_all
from target import running
from witness import Row

from tts_provider.errors import InvalidRequest
from tts_provider.speech.lexicon import Lexicon
from tts_provider.speech.reading import Reader, ReadingOptions

LONGEST = 20_000
ALLOWED_S = 0.25
_SHORT = LONGEST // 16
_GROWTH = 1.35  # exponent from n to 2n that is looked into at full length
_SLOW_S = ALLOWED_S * 2 * _SHORT / LONGEST * 1.5  # so slow at 2n that full length may be too much
_LINEAR = 1.25  # exponent from n/2 to n that is allowed at full length
_GIVE_UP_S = 3.0
_BATCH = 500

_LEXICON = Lexicon(
    {
        **{"a " * n + "b": "x" * 100 for n in range(1, 99)},
        **{"a" + " a" * n: "b" for n in range(1, 99)},
        "a": "b " * 9 + "b",
        "b": "/x/",
        "(": "left (",
        "1": "$1,234.5 kg/m",
        "A": "/ə/",
    }
)
PLAIN = ReadingOptions()
MODES: dict[str, tuple[ReadingOptions, int, bool]] = {
    "whole": (PLAIN, 0, False),
    "tags": (ReadingOptions(tags=True), 0, False),
    "all aloud": (
        ReadingOptions(aloud=frozenset(("code", "links", "citations", "thinking", "comments"))),
        0,
        False,
    ),
    "lexicon": (ReadingOptions(lexicon=_LEXICON), 0, False),
    "ssml": (ReadingOptions(ssml=True), 0, False),
    "ssml, lexicon": (ReadingOptions(ssml=True, lexicon=_LEXICON), 0, False),
    "pieces of 40": (ReadingOptions(tags=True), 40, False),
    "pieces of 40, clauses": (ReadingOptions(tags=True, lexicon=_LEXICON), 40, True),
    "pieces of 700": (PLAIN, 700, False),
    "ssml, pieces of 40": (ReadingOptions(ssml=True), 40, True),
}
"""How a text is read: its options, in pieces of so many characters, and whether clauses are taken
between them."""

_MARKS = r"""
    ! " # $ % & ' ( ) * + , - . / 0 1 12 123 2024 : ; < = > ? @ [ \ ] ^ _ ` { | } ~ a A I M X ab
    Ab e é ß 漢 ي १ · • – — … “ ” ‘ ’ « » ¿ ¡ € £ ¹ ⁴ ½ © ™ ☕ 👍 🇩 。 ！ 」 ， 【 】 † × → ≥ ° µ №
    ![ ![](x) ](x) [](x) []() ]: [^ ]( [1] [x] [a](b) [![]()] ![a](b) <!-- --> <!-- <!x> <?x?> <a>
    </a> <a <a= <a/> <a␣b="c"> <a␣b= <a␣hidden <br> <p> <pre> <script> </script> <think> </think>
    <break/> <break␣time="1s"/> <break␣time="9 <spell> </spell> <spell>a</spell> <http:// <a@b.c>
    <mailto: &amp; &#1 &#x &lt; &a; $x$ $$ \( \) \[ \] \frac{a}{b} \frac{ \sqrt{ ^{ _{
    \begin{ {x} :) ;-) ``` ~~~ ** __ == `` # ## --- === - * + > | |- 1. 1) a) Dr. St. Mr. e.g.
    etc. U.S. 1. v1 No. vs. p.m. a.m. 1,000 1'000 1.5 1/2 1/2/3 1-2 1-2-3 1:2 1:23 12:34 1:23:45
    1e5 1x2 5' 5'4" 12" 2024-01-02 1/2/24 01.02.2024 Jan May May␣1 1st 5th 90s '90s 1990s AD BC
    in␣1990 IV Henry␣I Chapter␣X X. +1 555 555- 555-1234 1-800-A 123-45-6789 call␣911 code code:
    order␣no. 5% 5kg 5␣kg 5km/h kg/m /m /mo m² m^2 sq␣ft $5 $5k $5␣million 5€ €-5 US$ USD 5¢
    http:// https://a www.a a.com a. .a a.b a@b a@b. /a /a/ ./ ~/ C:\ #a @a localhost localhost:1
    s/he and/or w/ w/o -> => >= != && -- ␣-␣ 5␣-␣6 (s) f(x) O( 401(k) CA ,␣CA ,␣CA␣12345 1␣Elm␣St
    Elm St N. [pause␣1s] [pause <speak> </speak> <p> </p> <s> <sub␣alias="a"> </sub>
    <phoneme␣ph="a"> </phoneme> <phoneme␣alphabet="ipa"␣ph="a">a</phoneme>
    <say-as␣interpret-as="date"> </say-as> <say-as␣interpret-as="characters">a</say-as>
    <sub␣alias="1">a</sub> <break/> ]]> <![CDATA[ ¯\_(ツ)_/¯
"""
# Between two marks is a space or a line's end; "␣" is a space within one.
MARKS = [
    *sorted({mark.replace("␣", " ") for mark in _MARKS.split()}),
    *("\u0301", "\u202f", "\ufe0f", "\u200d", "\u20e3"),
    *(" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u2028", "\x0b"),
]


@dataclass(frozen=True)
class Text:
    """A text of any length."""

    start: str
    fragment: str
    end: str

    def of(self, characters: int) -> str:
        room = max(characters - len(self.start) - len(self.end), len(self.fragment))
        return self.start + self.fragment * (room // len(self.fragment)) + self.end


@dataclass(frozen=True)
class Finding:
    text: Text
    mode: str
    what: str
    cpu_s: float


def make(random_: random.Random) -> Text:
    def some(most: int) -> str:
        return "".join(random_.choice(MARKS) for _ in range(random_.randint(0, most)))

    fragment = some(random_.choice((1, 2, 2, 3, 4, 6))) or random_.choice(MARKS)
    return Text(some(3), fragment, some(2))


def cpu_s(text: str, mode: str) -> float:
    """Of this thread; a text that is refused costs what it took until then."""
    options, piece, takes_clauses = MODES[mode]
    began = time.thread_time()
    try:
        reader = Reader(options)
        if not piece:
            for _ in reader.read(text):
                pass
        for at in range(0, len(text), piece) if piece else ():
            reader.push(text[at : at + piece])
            if takes_clauses:
                reader.take_clause()
        if piece:
            reader.flush()
    except InvalidRequest:
        pass
    return time.thread_time() - began


def growth(text: Text, mode: str, characters: int) -> tuple[float, float]:
    """By what exponent the time grows up to so many characters, and what they take."""
    half, full = (least(cpu_s, text.of(n), mode) for n in (characters // 2, characters))
    return (0.0 if full < 0.004 else _log2(full / max(half, 0.0005))), full


def least(measure: Callable[[str, str], float], text: str, mode: str) -> float:
    """The second reading is without what only the first has to do."""
    first = measure(text, mode)
    return first if first > ALLOWED_S else min(first, measure(text, mode))


def _log2(ratio: float) -> float:
    return math.log2(max(ratio, 0.01))


def check(text: Text, mode: str, *, is_sample: bool) -> Finding | None:
    """What is wrong with how long it takes."""
    exponent, short_s = growth(text, mode, 2 * _SHORT)
    if not (is_sample or exponent > _GROWTH or short_s > _SLOW_S):
        return None
    quarter = cpu_s(text.of(LONGEST // 4), mode)
    if quarter > ALLOWED_S:
        return Finding(text, mode, f"{LONGEST // 4} characters", quarter)
    exponent, full_s = growth(text, mode, LONGEST)
    if full_s > ALLOWED_S:
        return Finding(text, mode, f"{LONGEST} characters, exponent {exponent:.1f}", full_s)
    if full_s > 0.05 and exponent > _LINEAR and growth(text, mode, LONGEST)[0] > _LINEAR:
        return Finding(text, mode, f"exponent {exponent:.1f}", full_s)
    return None


def _read(texts: list[tuple[Text, str, bool]], answers: Connection) -> None:
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    for text, mode, is_sample in texts:
        # The patterns cannot be interrupted: the process ends, and the parent knows at which text.
        signal.setitimer(signal.ITIMER_VIRTUAL, 10 * _GIVE_UP_S if is_sample else _GIVE_UP_S)
        answers.send(check(text, mode, is_sample=is_sample))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def fuzz(count: int, seed: int) -> Iterator[Finding | int]:
    """What is wrong, and after each batch how many texts were read."""
    random_ = random.Random(seed)
    modes = list(MODES)
    left = [(make(random_), modes[i % len(modes)], i % 50 == 0) for i in range(count)]
    while left:
        batch, left = left[:_BATCH], left[_BATCH:]
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_read, args=(batch, there))
        process.start()
        there.close()
        done = 0
        try:
            while done < len(batch):
                answer = here.recv()
                done += 1
                if answer is not None:
                    yield answer
        except EOFError:
            text, mode, _ = batch[done]
            yield Finding(text, mode, "not read to its end", _GIVE_UP_S)
            left = batch[done + 1 :] + left
        process.join()
        yield count - len(left)


def _post(body: dict[str, object]) -> bytes:
    data = json.dumps(body).encode()
    head = "POST /v1/audio/words HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


_WORST = "Dr. A paid $1,234.56/kg on 5/6/21. "
_PRONUNCIATIONS = {"a": "b " * 8 + "b", "b": "/x/"}


def words_that_nobody_waits_for(port: int, seconds: float) -> None:
    """Twelve at a time, whose clients leave."""
    request = _post({"input": (_WORST + "a ") * (LONGEST // 40), "pronunciations": _PRONUNCIATIONS})
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError), contextlib.ExitStack() as sockets:
            for _ in range(12):
                out = sockets.enter_context(socket.create_connection(("127.0.0.1", port)))
                out.sendall(request)
            time.sleep(0.05)


def _texts(text: str, **settings: object) -> Iterator[dict[str, object]]:
    yield {"type": "session.update", **settings}
    for number in itertools.count():
        context = f"c{number}"
        yield {"type": "input_text.append", "context_id": context, "text": text}
        yield {"type": "context.cancel", "context_id": context}


def long_texts(port: int, seconds: float) -> None:
    send_all(port, seconds, _texts((_WORST * 600)[:LONGEST]))


def long_texts_with_a_lexicon(port: int, seconds: float) -> None:
    text = ("a. " * LONGEST)[:LONGEST]
    send_all(port, seconds, _texts(text, pronunciations=_PRONUNCIATIONS))


def pictures(port: int, seconds: float) -> None:
    send_all(port, seconds, _texts(Text("[", "![](x)", "\n").of(LONGEST)))


FLOODS = {
    "texts of 20 000 characters in a session, again and again": long_texts,
    "the same with a dictionary that makes three times as much of them": long_texts_with_a_lexicon,
    "a link of 3 300 pictures that never ends": pictures,
    "12 requests to /v1/audio/words whose clients leave": words_that_nobody_waits_for,
}


async def measure() -> AsyncIterator[Row]:
    with running() as target:
        for name, flood in FLOODS.items():
            yield await compare(name, flood, target)
    count, seed = 5000, 0
    found = await asyncio.to_thread(
        lambda: [one for one in fuzz(count, seed) if isinstance(one, Finding)]
    )
    worst = max((finding.cpu_s for finding in found), default=0.0)
    yield Row(
        f"{count} texts made to hurt, read in {len(MODES)} ways",
        f"{len(found)} take long" + (f", {worst:.1f} s of CPU" if found else ""),
        f"at most {ALLOWED_S} s for {LONGEST} characters, and no faster growth than theirs",
        not found,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = 0
    for one in fuzz(options.texts, options.seed):
        if isinstance(one, Finding):
            found += 1
            print(f"{one.cpu_s:6.2f} s  {one.mode:22} {one.what}: {one.text}", flush=True)
        else:
            print(f"{found} of {one}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
