"""The means and variances that a voice's sentences are decoded with, measured once and kept.

A sentence that is decoded in chunks cannot have its own. Two sentences of the voice stand for all:
one for short ones, one for the others. What is kept makes a text the same samples tomorrow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tts_provider.engines.inference import Inference
from tts_provider.engines.kokoro.network.graph import Network, Statistics
from tts_provider.engines.kokoro.network.sentences import SENTENCES
from tts_provider.engines.kokoro.phonemes.alphabet import encode
from tts_provider.engines.kokoro.voices import Pack

log = logging.getLogger(__name__)

LONG_FRAMES = 200
"""Sentences from here on are long, 5 s."""

_Both = tuple[Statistics, Statistics]


class Norms:
    """The statistics of every voice. Call it from any thread."""

    def __init__(self, network: Network, folder: Path) -> None:
        """They are kept in `folder`."""
        self._network, self._folder = network, folder
        self._known: dict[str, _Both] = {}
        self._measuring: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(
        self, packs: Sequence[tuple[Pack, float, str]], frames: int, inference: Inference
    ) -> Statistics:
        """For a sentence of so many frames in the voice that these packs with their shares are,
        each with the letter of its language. Takes seconds where a pack was never measured. Raises
        `InferenceEnded`."""
        kind = int(frames >= LONG_FRAMES)
        parts = [
            (self._of_pack(pack, letter, inference)[kind], share) for pack, share, letter in packs
        ]
        if len(parts) == 1:
            return parts[0][0]
        return {
            name: np.asarray(sum(np.float32(share) * one[name] for one, share in parts), np.float32)
            for name in parts[0][0]
        }

    def _of_pack(self, pack: Pack, letter: str, inference: Inference) -> _Both:
        key = f"{pack.key}-{letter}"
        with self._lock:
            if key in self._known:
                return self._known[key]
            lock = self._measuring.setdefault(key, threading.Lock())
        with lock:  # who comes second waits for the first, and measures nothing
            if key not in self._known:
                path = self._folder / f"{key}.npz"
                both = _read(path) or self._measure(pack, letter, inference)
                if not path.exists():
                    _write(path, both)
                self._known[key] = both
        return self._known[key]

    def _measure(self, pack: Pack, letter: str, inference: Inference) -> _Both:
        short, long = (
            self._network.measure(
                self._network.plan(encode(text), pack.style(len(text)), 1.0, inference), inference
            )
            for text in SENTENCES[letter]
        )
        return short, long


def _read(path: Path) -> _Both | None:
    """None if there is no such file, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = dict(kept)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged and is measured again: %s", path, error)
        path.unlink(missing_ok=True)
        return None
    short, long = (
        {name[1:]: array for name, array in arrays.items() if name[0] == kind} for kind in "sl"
    )
    return short, long


def _write(path: Path, both: _Both) -> None:
    """Keep them on the disk. If the disk refuses, the next start takes some seconds longer, and no
    speech is lost."""
    arrays = {
        kind + name: array
        for kind, one in zip("sl", both, strict=True)
        for name, array in one.items()
    }
    fresh = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez(fresh, **arrays)  # type: ignore[arg-type]
        fresh.replace(path)
    except OSError as error:
        log.warning("cannot store the statistics of a voice in %s: %s", path, error.strerror)
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
