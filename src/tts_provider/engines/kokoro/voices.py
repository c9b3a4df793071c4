"""Kokoro's voices: who they are, how loud, their style vectors, and mixtures of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tts_provider.errors import EngineFailed, StartupError
from tts_provider.speech.engine import Voice
from tts_provider.voices.mixtures import Part, parse_mixture

SOURCE = "kokoro"

LANGUAGES: Mapping[str, str] = {
    "a": "en-US",
    "b": "en-GB",
    "e": "es",
    "f": "fr",
    "h": "hi",
    "i": "it",
    "j": "ja",
    "p": "pt-BR",
    "z": "zh",
}
"""By the first letter of a voice's name; the second says whether it is a woman."""

_GENDERS: Mapping[str, Literal["male", "female"]] = {"f": "female", "m": "male"}
_SPEAKERS = (("am_michael", "male"), ("af_heart", "female"))

NAME = re.compile(f"[{''.join(LANGUAGES)}][fm]_[a-z0-9]{{1,32}}")
_ROWS, _WIDTH = 510, 256
PACK_BYTES = _ROWS * _WIDTH * 4

Floats = npt.NDArray[np.float32]

# fmt: off
GAINS: Mapping[str, float] = {
    "af_alloy": 1.31, "af_aoede": 0.78, "af_bella": 1.19, "af_heart": 1.37,
    "af_jessica": 1.31, "af_kore": 0.83, "af_nicole": 1.34, "af_nova": 2.17,
    "af_river": 1.27, "af_sarah": 1.13, "af_sky": 1.62, "am_adam": 0.85, "am_echo": 1.34,
    "am_eric": 1.14, "am_fenrir": 0.94, "am_liam": 1.23, "am_michael": 1.63, "am_onyx": 1.39,
    "am_puck": 0.85, "am_santa": 1.41,
    "bf_alice": 1.11, "bf_emma": 1.10, "bf_isabella": 0.83, "bf_lily": 1.17,
    "bm_daniel": 1.14, "bm_fable": 1.55, "bm_george": 1.15, "bm_lewis": 1.52,
    "ef_dora": 1.57, "em_alex": 1.44, "em_santa": 1.42,
    "ff_siwis": 0.95,
    "hf_alpha": 0.62, "hf_beta": 0.76, "hm_omega": 0.71, "hm_psi": 0.85,
    "if_sara": 0.55, "im_nicola": 0.90,
    "jf_alpha": 0.98, "jf_gongitsune": 1.10, "jf_nezumi": 1.09, "jf_tebukuro": 1.14,
    "jm_kumo": 1.02,
    "pf_dora": 1.58, "pm_alex": 1.47, "pm_santa": 1.45,
    "zf_xiaobei": 1.04, "zf_xiaoni": 0.85, "zf_xiaoxiao": 0.67, "zf_xiaoyi": 0.93,
    "zm_yunjian": 1.10, "zm_yunxi": 1.21, "zm_yunxia": 1.07, "zm_yunyang": 1.64,
}
# fmt: on
"""To −20 dB, of every voice that the hub has; measured by benchmarks/kokoro.py --levels."""
_USUAL_GAIN = 1.4


@dataclass(frozen=True)
class Pack:
    """A voice's style vectors: (510, 256) float32, a row for each number of phonemes."""

    path: Path
    key: str
    """Of its contents: another file is another key."""

    def style(self, phonemes: int) -> Floats:
        """(1, 256) for a text of so many phonemes, read from the file: all voices are 28 MB. Raises
        `EngineFailed` where it is gone."""
        row = min(max(phonemes, 1), _ROWS) - 1
        try:
            found = np.fromfile(self.path, "<f4", _WIDTH, offset=row * _WIDTH * 4)
        except OSError as error:
            raise EngineFailed(f"the voice {self.path} is gone ({error.strerror})") from None
        return found.astype(np.float32, copy=False).reshape(1, -1)


def mix(packs: Sequence[tuple[Pack, float]], phonemes: int) -> Floats:
    """The style of packs with their shares, (1, 256), for a text of so many phonemes. Raises
    `EngineFailed`."""
    if len(packs) == 1:
        return packs[0][0].style(phonemes)
    mixed = np.zeros((1, _WIDTH), np.float32)
    for pack, share in packs:
        mixed += np.float32(share) * pack.style(phonemes)
    return mixed


@dataclass(frozen=True)
class Character:
    """A voice, or a mixture of several, that speaks."""

    parts: tuple[Part, ...]
    """Their shares are 1 together."""

    @cached_property
    def gain(self) -> float:
        return sum(part.share * GAINS.get(part.name, _USUAL_GAIN) for part in self.parts)


def list_voices(names: Collection[str]) -> list[Voice]:
    """The voices whose files have names that match `NAME`; speakers 0 and 1 come first."""
    voices = {name: _voice(name) for name in sorted(names)}
    speakers = list[Voice]()
    for number, (usual, gender) in enumerate(_SPEAKERS):
        others = [voice for voice in voices.values() if voice.id not in {s.id for s in speakers}]
        if not others:
            break
        chosen = max(others, key=lambda v: (v.id == usual, v.gender == gender))
        speakers.append(replace(chosen, speaker=number))
    taken = {voice.id for voice in speakers}
    return [*speakers, *(voice for name, voice in voices.items() if name not in taken)]


def _voice(name: str) -> Voice:
    shown = f"{name[3:].capitalize()} (Kokoro)"
    return Voice(name, shown, _GENDERS[name[1]], SOURCE, language=LANGUAGES[name[0]])


def find_mixture(name: str, voices: Iterable[Voice]) -> Voice | None:
    """The mixture with this name, of Kokoro's voices among these; None if it is not a mixture.

    Raises `InvalidRequest` for a mixture that is not possible.
    """
    known = {voice.id: voice for voice in voices if voice.source == SOURCE}
    parts = parse_mixture(name, known)
    if parts is None:
        return None
    mixed = [known[part.name] for part in parts]
    first = max(zip(parts, mixed, strict=True), key=lambda pair: pair[0].share)[1]
    gender = first.gender if len({voice.gender for voice in mixed}) == 1 else "unknown"
    own = name.strip().lower()
    return Voice(own, f"{own} (Kokoro)", gender, SOURCE, language=first.language)


def character_of(voice: Voice, known: Collection[str]) -> Character:
    """How a voice that `list_voices` or `find_mixture` made is spoken."""
    if voice.id in known:
        return Character((Part(voice.id, 1.0),))
    parts = parse_mixture(voice.id, known)
    assert parts is not None, "it came from here"
    return Character(parts)


def read_pack(path: Path) -> Pack:
    """Raises `StartupError` if the file is not a voice of Kokoro-82M."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartupError(f"the voice {path} cannot be read ({error.strerror})") from None
    if len(data) != PACK_BYTES:
        raise StartupError(
            f"{path} is no voice of Kokoro-82M: it has {len(data)} bytes, a voice has {PACK_BYTES}"
        )
    rows = np.frombuffer(data, "<f4").reshape(_ROWS, _WIDTH)
    if not np.isfinite(rows).all():
        raise StartupError(f"{path} is no voice of Kokoro-82M: it has values that are not numbers")
    return Pack(path, hashlib.sha256(data).hexdigest()[:16])
