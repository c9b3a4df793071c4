"""Which engine speaks, and why; and how the chosen one is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tts_provider.errors import StartupError

if TYPE_CHECKING:
    from tts_provider.config import Settings
    from tts_provider.engines.unloading import ModelMetrics
    from tts_provider.speech.engine import Engine

    Report = Callable[[str], None]


@dataclass(frozen=True)
class Entry:
    """An engine as it is offered, found and built. Its module is imported when it is needed."""

    name: str
    about: str
    """For `serve --help` and `doctor`."""
    missing: str
    """What is missing where `find` finds nothing; empty where nobody misses it."""
    find: Callable[[Settings], str | None]
    """Why `auto` may take it, in words; None where it may not."""
    build: Callable[[Settings, Report], Engine]
    """The engine, its files found or downloaded and checked, not loaded yet. Raises
    `StartupError` where it cannot be had."""
    advice: str | None = None
    """How to get a better one, where `auto` takes this one."""
    is_elsewhere: bool = False
    """Its voices are those of other machines, which have the embedded ones too."""
    is_beside: bool = False
    """Its voices are offered beside those of a better engine too, where `find` finds its files."""
    is_embedded: bool = False
    """Its voices are offered beside those of a better engine too, wherever `find` finds it."""
    says_words: bool = True
    """Whether it knows when it speaks each word. Where it does not, the embedded ones tell."""


@dataclass(frozen=True)
class Choice:
    engine: str
    reason: str
    warning: str | None = None


def choose_engine(settings: Settings) -> Choice:
    """What `--engine` comes to: `auto` is the first of `ENGINES` that can be had.

    Raises `StartupError` where there is no such engine.
    """
    if settings.engine == "auto":
        missing: list[str] = []
        for entry in ENGINES:
            reason = entry.find(settings)
            if reason is not None:
                return Choice(entry.name, "; ".join([*missing, reason]), entry.advice)
            missing += filter(None, [entry.missing])
        raise StartupError("; ".join(missing))
    if settings.engine not in engine_names():
        raise StartupError(
            f"there is no engine {settings.engine!r}; --engine (TTS_PROVIDER_ENGINE) takes "
            f"{', '.join(engine_names())}"
        )
    return Choice(settings.engine, f"--engine {settings.engine} asks for it")


def choose_embedded(settings: Settings) -> Choice:
    """The best that needs no model, for a moment's use.

    Raises `StartupError` where there is none.
    """
    embedded = [entry for entry in ENGINES if entry.is_embedded]
    for entry in embedded:
        reason = entry.find(settings)
        if reason is not None:
            return Choice(entry.name, reason)
    raise StartupError("; ".join(entry.missing for entry in embedded))


def build_engine(
    choice: Choice, settings: Settings, on_progress: Report = lambda line: None
) -> Engine:
    """The engine, its files found or downloaded and checked, not loaded yet; beside it those that
    come after it and are embedded or have their files here, unless the engine is on other machines.

    Raises `StartupError` where it cannot be had.
    """
    from tts_provider.engines.aligned import AlignedEngine
    from tts_provider.engines.ensemble import Ensemble
    from tts_provider.engines.unloading import ModelMetrics

    at = engine_names().index(choice.engine)  # one more than in the table: "auto" is first
    first = ENGINES[at - 1]
    beside = [
        entry
        for entry in ENGINES[at:]
        if (entry.is_beside or entry.is_embedded) and entry.find(settings)
    ]
    entries = [first] if first.is_elsewhere else [first, *beside]
    metrics = ModelMetrics()
    engines = [_build(entry, settings, on_progress, metrics) for entry in entries]
    if len(engines) == 1:
        return engines[0]
    if not first.says_words:
        embedded = [
            engine for entry, engine in zip(entries, engines, strict=True) if entry.is_embedded
        ]
        engines[0] = AlignedEngine(engines[0], embedded)
    return Ensemble(engines, speak_while_loading=settings.speak_while_loading)


def _build(entry: Entry, settings: Settings, on_progress: Report, metrics: ModelMetrics) -> Engine:
    """Those that are small, or on other machines, stay as they are."""
    from tts_provider.engines.unloading import UnloadingEngine

    engine = entry.build(settings, on_progress)
    if settings.unload_after_s is None or entry.is_embedded or entry.is_elsewhere:
        return engine

    def rebuild(report: Report) -> Engine:
        return entry.build(settings, report)

    return UnloadingEngine(engine, rebuild, settings.unload_after_s, metrics)


def engine_names() -> tuple[str, ...]:
    """What `--engine` takes."""
    return ("auto", *(entry.name for entry in ENGINES))


def _find_csm(settings: Settings) -> str | None:
    from tts_provider.engines.csm.build import find_weights

    return find_weights(settings)


def _build_csm(settings: Settings, on_progress: Report) -> Engine:
    from tts_provider.engines.csm.build import build

    return build(settings, on_progress)


def _find_kokoro(settings: Settings) -> str | None:
    from tts_provider.engines.kokoro.build import find_kokoro

    return find_kokoro(settings)


def _build_kokoro(settings: Settings, on_progress: Report) -> Engine:
    from tts_provider.engines.espeak.engine import EspeakEngine
    from tts_provider.engines.kokoro.build import build

    return build(settings, on_progress, EspeakEngine() if _find_espeak(settings) else None)


def _find_hibari(_settings: Settings) -> str | None:
    return "hibari's voice is in its package" if find_spec("hibari") else None


def _build_hibari(settings: Settings, _on_progress: Report) -> Engine:
    from tts_provider.cpus import available_cpus
    from tts_provider.engines.espeak.engine import EspeakEngine
    from tts_provider.engines.hibari.engine import HibariEngine
    from tts_provider.engines.hibari.package import read_model

    foreign = EspeakEngine() if _find_espeak(settings) else None
    return HibariEngine(read_model(), settings.threads or available_cpus(), foreign)


def _find_replicas(settings: Settings) -> str | None:
    from tts_provider.engines.remote.build import find_replicas

    return find_replicas(settings)


def _build_remote(settings: Settings, _on_progress: Report) -> Engine:
    from tts_provider.engines.remote.build import build

    return build(settings)


def _find_espeak(_settings: Settings) -> str | None:
    return "espeak-ng needs no model" if find_spec("espeakng_loader") else None


def _build_espeak(_settings: Settings, _on_progress: Report) -> Engine:
    from tts_provider.engines.espeak.engine import EspeakEngine

    return EspeakEngine()


_GET_CSM = (
    "for CSM-1B, accept its terms at https://huggingface.co/sesame/csm-1b and set HF_TOKEN in .env"
)

ENGINES = (
    Entry(
        "remote",
        about="engines on other machines",
        missing="",
        find=_find_replicas,
        build=_build_remote,
        is_elsewhere=True,
    ),
    Entry(
        "csm",
        about="Sesame's CSM-1B",
        missing="CSM-1B was not found: no HF_TOKEN, no --model-path, no snapshot in the Hugging "
        "Face cache",
        find=_find_csm,
        build=_build_csm,
        says_words=False,
    ),
    Entry(
        "kokoro",
        about="Kokoro-82M, natural voices in nine languages on a CPU",
        missing="Kokoro-82M was not found: no --kokoro-path, not in the Hugging Face cache",
        find=_find_kokoro,
        build=_build_kokoro,
        is_beside=True,
    ),
    Entry(
        "hibari",
        about="a small natural English voice",
        missing="hibari-tts is not installed",
        find=_find_hibari,
        build=_build_hibari,
        advice="speaking with the embedded voice hibari, a small model; --engine kokoro downloads "
        f"natural voices in nine languages (120 MB); {_GET_CSM}",
        is_embedded=True,
    ),
    Entry(
        "espeak",
        about="a hundred languages, robotic",
        missing="espeak-ng is not installed",
        find=_find_espeak,
        build=_build_espeak,
        advice="speaking with espeak-ng; for a natural embedded voice, pip install hibari-tts; "
        + _GET_CSM,
        is_embedded=True,
    ),
)
"""Best first: `auto` takes the first that can be had."""
