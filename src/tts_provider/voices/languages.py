"""Which voices read text in another language than a voice's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tts_provider.speech.engine import Voice

# The `source` of voices that read every text by the rules of their own language.
_OF_ONE_LANGUAGE = ("kokoro",)


def readers_beside(voice: Voice, voices: Iterable[Voice]) -> Mapping[str, Voice]:
    """For each other language (its primary subtag): the first of `voices` from the same engine that
    speaks it, of the same gender if there is one. Empty if `voice` reads every language as well as
    it can be read."""
    if voice.source not in _OF_ONE_LANGUAGE:
        return {}
    readers = dict[str, Voice]()
    for other in voices:
        language = primary_subtag(other.language)
        if other.source != voice.source or language == primary_subtag(voice.language):
            continue
        known = readers.get(language)
        if known is None or (known.gender != voice.gender == other.gender):
            readers[language] = other
    return readers


def primary_subtag(language: str) -> str:
    """`pt` of `pt-BR`."""
    return language.partition("-")[0].lower()
