"""What replicas are asked, whoever of them answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tts_provider.engines.remote.frames import Bounds


@dataclass(frozen=True)
class Question:
    path: str
    encode: Callable[[int], bytes]
    """The body, where the listener has so many samples already."""
    bounds: Bounds
    headers: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False
    """It is asked again for a while where all are busy."""
    is_hedged: bool = False
    """Somebody listens, so that another replica may be asked too where one is late."""
    source: str = ""
    """Of the voice; some can be continued by another replica."""
    has_seed: bool = False
    """It must be the same samples, whoever speaks."""
    ahead_s: float | None = None
    """How far ahead of the listener the audio may be."""
