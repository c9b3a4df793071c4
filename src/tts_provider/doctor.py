"""`tts-provider doctor`: what is here, which engine would speak, and what to do next."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from rich.console import Console
from rich.markup import escape

from tts_provider import __version__
from tts_provider.config import ENV_FILE, Settings
from tts_provider.errors import StartupError
from tts_provider.selection import build_engine, choose_engine, find_snapshots, hub_cache

_PACKAGES = (
    "espeakng-loader",
    "huggingface-hub",
    "onnxruntime",
    "uvicorn",
    "websockets",
    "fastapi",
    "soxr",
)


def print_report(settings: Settings) -> None:
    # Paths are printed whole, to be copied: no wrapping and no markup in values.
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]tts-provider {__version__}[/]")
    _print_facts(console, "installed", _installed())
    _print_facts(console, "settings", _configured(settings))
    choice = choose_engine(settings)
    console.print(f"[bold]engine:[/] {choice.engine}, because {escape(choice.reason)}")
    try:
        # Looking at the embedded voice is quick; a model would be downloaded here.
        if choice.engine == "espeak":
            build_engine(choice, settings)
        next_step = choice.warning or "tts-provider serve, then tts-provider say 'Hello there'"
    except StartupError as error:
        next_step = str(error)
    console.print(f"[bold]next:[/] {escape(next_step)}")


def _print_facts(console: Console, title: str, facts: dict[str, str]) -> None:
    console.print(f"[bold]{title}[/]")
    width = max(map(len, facts))
    for name, value in facts.items():
        console.print(f"  {name:{width}}  {escape(value)}")


def _installed() -> dict[str, str]:
    facts = {"Python": f"{platform.python_version()} on {platform.system()}"}
    for package in _PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "missing"
    return facts


def _configured(settings: Settings) -> dict[str, str]:
    return {
        ".env": str(ENV_FILE.resolve()) if ENV_FILE.exists() else "none",
        "listens on": f"{settings.host}:{settings.port}",
        "HF_TOKEN": "set" if settings.hf_token else "not set",
        "Hugging Face cache": str(hub_cache(settings)),
        "CSM-1B snapshots": ", ".join(map(str, find_snapshots(settings))) or "none",
        "data folder": str(settings.data_dir),
    }
