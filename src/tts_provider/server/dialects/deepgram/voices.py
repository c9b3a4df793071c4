"""The voices that Deepgram's clients request, and the speaker for each."""

from __future__ import annotations

from collections.abc import Mapping

from tts_provider.voices.aliases import MAN, WOMAN

# https://developers.deepgram.com/docs/tts-models: model, voice and language in one name.
_MEN = (
    *("angus", "apollo", "arcas", "aries", "atlas", "draco", "helios", "hermes", "hyperion"),
    *("jupiter", "mars", "neptune", "odysseus", "orion", "orpheus", "perseus", "pluto", "saturn"),
    "zeus",
)
_WOMEN = (
    *("amalthea", "andromeda", "asteria", "athena", "aurora", "callista", "cora", "cordelia"),
    *("delia", "electra", "harmonia", "helena", "hera", "iris", "janus", "juno", "luna"),
    *("minerva", "ophelia", "pandora", "phoebe", "selene", "stella", "thalia", "theia", "vesta"),
)
VOICES: Mapping[str, int] = {
    f"{model}-{name}-en": speaker
    for model in ("aura", "aura-2")
    for speaker, names in ((MAN, _MEN), (WOMAN, _WOMEN))
    for name in names
}
