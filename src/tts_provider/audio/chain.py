"""Processes sound as it comes: stages, one after the other."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tts_provider.audio.background import Background, pieces
from tts_provider.audio.pcm import Samples


class Stage(Protocol):
    """A step of processing. The joined output of all `push` and `finish` calls does not depend on
    how the samples were cut. Call it from any thread, one call at a time."""

    def push(self, samples: Samples) -> Samples:
        """(n,) → the samples that these complete, (m,)."""

    def finish(self) -> Samples:
        """Return the rest."""


class Chain:
    """Stages that do not block the event loop: a piece goes through all of them on one thread, in
    one go."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        """Without stages, sound passes through."""
        self._stages = stages
        self._background = Background() if stages else None

    async def push(self, samples: Samples) -> Samples:
        if self._background is None:
            return samples
        done = [
            await self._background.run(functools.partial(self._push, piece))
            for piece in pieces(samples)
        ]
        return np.concatenate(done)

    async def finish(self, samples: Samples) -> Samples:
        """Process the last samples and return the rest."""
        if self._background is None:
            return samples
        done = [await self.push(samples)] if len(samples) else []
        return np.concatenate([*done, await self._background.run(self._finish)])

    def _push(self, samples: Samples) -> Samples:
        for stage in self._stages:
            samples = stage.push(samples)
        return samples

    def _finish(self) -> Samples:
        rest: Samples = np.zeros(0, np.float32)
        for stage in self._stages:
            rest = np.concatenate([stage.push(rest), stage.finish()])
        return rest
