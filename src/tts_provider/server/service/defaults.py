"""Defaults for what a request leaves out: the operator's voice, speed, format and sample rate, else
this server's own, or those of the service whose API was called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tts_provider.audio.encode.encode import Output, sample_rates
from tts_provider.audio.encode.format import COMMON_FORMATS, Format
from tts_provider.config import EVERYWHERE, Settings
from tts_provider.errors import StartupError
from tts_provider.speech.engine import SAMPLE_RATE

SESSION_FORMATS: tuple[Format, ...] = ("pcm", "mulaw", "alaw", "opus")
"""The formats of a session, each of whose segments is encoded by itself."""
_FORMATS: Mapping[str, tuple[Format, ...]] = {
    "basic": COMMON_FORMATS,
    "openai": COMMON_FORMATS,
    "session": SESSION_FORMATS,
}


@dataclass(frozen=True)
class Defaults:
    voice: str | None = None
    """None is speaker 0."""
    speed: float = 1.0
    formats: Mapping[str, Format] = field(default_factory=dict)
    """By endpoint, see `config.ENDPOINTS`; an endpoint that is missing has its own."""
    sample_rates: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Defaults:
        """Raises `StartupError` if an endpoint does not have the format, or not at that rate."""
        asked_formats = _by_endpoint(settings.default_format)
        formats: dict[str, Format] = {}
        for endpoint, name in asked_formats.items():
            known = {str(known): known for known in _FORMATS[endpoint]}
            if name not in known:
                others = ",".join(f"{each}={name}" for each in _FORMATS if name in _FORMATS[each])
                hint = f"; name the endpoints that have it: {others}" if others else ""
                raise StartupError(
                    f"--default-format {name}: {endpoint} has {', '.join(known)}{hint}"
                )
            formats[endpoint] = known[name]
        rates = _by_endpoint(settings.default_sample_rate)
        for endpoint, rate in rates.items():
            audio_format = formats.get(endpoint, "pcm")
            if rate not in (possible := sample_rates(audio_format)):
                raise StartupError(
                    f"--default-sample-rate {rate}: {audio_format} at {endpoint} has "
                    f"{', '.join(map(str, possible))}"
                )
        return cls(settings.default_voice, settings.default_speed, formats, rates)

    def output(
        self, endpoint: str, audio_format: Format | None, sample_rate: int | None, own: Format
    ) -> Output:
        """The output for a request that says only this; `own` is the endpoint's own format. The
        default rate does not apply to a format that does not exist at it."""
        chosen = audio_format or self.formats.get(endpoint, own)
        usual = self.sample_rates.get(endpoint, SAMPLE_RATE)
        if usual not in sample_rates(chosen):
            usual = SAMPLE_RATE
        return Output(chosen, sample_rate or usual)


def _by_endpoint(asked: Mapping[str, Any]) -> dict[str, Any]:
    everywhere = asked.get(EVERYWHERE)
    chosen = {endpoint: asked.get(endpoint, everywhere) for endpoint in _FORMATS}
    return {endpoint: value for endpoint, value in chosen.items() if value is not None}
