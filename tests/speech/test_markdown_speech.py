"""Markdown sounds as its plain text does."""

from __future__ import annotations

import pytest

from tts_provider.engines.espeak.engine import VOICES, EspeakEngine
from tts_provider.speech import pipeline
from tts_provider.speech.engine import Utterance
from tts_provider.speech.reading import read

SNIPPETS = [
    ("**Bold** claims need *proof*.", "Bold claims need proof."),
    ("# The weather\n\nIt rains.", "The weather.\n\nIt rains."),
    ("- milk\n- eggs\n- bread", "milk.\n\neggs.\n\nbread."),
    ("1. Open it.\n2. Close it.", "One, open it.\n\nTwo, close it."),
    ("See [the manual](https://example.com/a/b?c=d#e) first.", "See the manual first."),
    ("![A red fox](fox.png) sleeps.", "A red fox sleeps."),
    ("Run `make test` now.", "Run make test now."),
    ("Do this:\n\n```bash\nrm -rf /tmp/x\n```\n\nThen rest.", "Do this:\n\nThen rest."),
    ("| Name | Age |\n|------|-----|\n| Ann | 30 |", "Name, age.\n\nAnn, thirty."),
    ("> To be, or not to be.", "To be, or not to be."),
    ("~~Old~~ new and ***both***", "Old new and both"),
    ("It works.[1][2] Really [3].", "It works. Really."),
    ("Great job! 🎉🚀 Next one 👍🏽.", "Great job! Next one."),
    ("<b>Stop</b><br>Go &amp; see", "Stop.\n\nGo and see"),
    ("<think>The user wants a joke.</think>Knock, knock.", "Knock, knock."),
    ("First\n\n---\n\nSecond", "First.\n\nSecond."),
    ("- [x] done\n- [ ] open", "done.\n\nopen."),
    ("Open `my_file.txt` for **$5**.", "Open my underscore file dot txt for five dollars."),
    ("[![build](https://ci.org/b.svg)](https://ci.org) passes", "build passes"),
    ("Euler: $e^x$ grows.", "Euler: e to the power of x grows."),
]


async def seconds_of(text: str) -> float:
    speech = pipeline.speak(EspeakEngine(), Utterance(text, VOICES[0]), read(text))
    return [chunk async for chunk in speech][-1].end / 24_000


@pytest.mark.parametrize(("markdown", "plain"), SNIPPETS)
async def test_markdown_takes_as_long_as_its_plain_text(markdown, plain):
    assert await seconds_of(markdown) == pytest.approx(await seconds_of(plain), rel=0.1)
