"""Which language a text in Latin letters is written in, by py3langid: naive Bayes over sequences of
bytes (Lui and Baldwin 2012, https://aclanthology.org/P12-3005/)."""

from __future__ import annotations

import functools
import mmap
import re
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

# More languages than voices speak, so that Dutch is not taken for one of the others.
_CONSIDERED = ("de", "en", "es", "fr", "it", "nl", "pl", "pt", "ro", "sv", "tr")
_LEAST_WORDS = 3
_SURE = 0.8
_WORD = re.compile(r"[^\W\d_]{2,}")
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-z\u00aa-\u02ff\u1e00-\u1eff\ufb00-\ufb06]")


@dataclass(frozen=True)
class Guess:
    language: str
    """A primary subtag of BCP 47."""
    is_sure: bool


def identify(text: str) -> Guess | None:
    """The language of `text`; None if it has fewer than three words, or letters of another script.
    Takes tens of microseconds after `load`."""
    if len(_WORD.findall(text)) < _LEAST_WORDS or _OTHER_LETTER.search(text):
        return None
    language, probability = load().classify(text)
    return Guess(str(language), bool(probability >= _SURE))


@functools.cache
def load() -> LanguageIdentifier:
    """The classifier, which takes half a second of CPU time to read and 11 to 17 MB from then on.

    Its table of transitions, 39 MB, lies in a temporary file that is mapped into memory: a text
    needs few pages of it.
    """
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier
    from py3langid.modelio import load_model

    weights, priors, languages, transitions, rows, outputs = load_model(MODEL_DIR / MODEL_FILE)
    considered = [languages.index(language) for language in _CONSIDERED]
    with tempfile.TemporaryFile() as file:
        transitions.tofile(file)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return LanguageIdentifier(
        weights[:, considered],
        priors[considered],
        list(_CONSIDERED),
        memoryview(mapped).cast(transitions.typecode),
        outputs,
        norm_probs=True,
        tk_row=rows,
    )
