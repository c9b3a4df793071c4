"""The settings that people type. What one may be, and what it is by default, is in `config.py`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from tts_provider.config import Settings, flag_name
from tts_provider.selection import ENGINES, engine_names


@dataclass(frozen=True)
class Flag:
    help: str
    metavar: str | None = None
    """None where the setting has a few values, or is switched on."""


_LISTENING = {
    "host": Flag("address to listen on", "HOST"),
    "port": Flag("port; 0 takes a free one", "PORT"),
    "wyoming_port": Flag("a port for Home Assistant, 10200 by custom", "PORT"),
    "wyoming_host": Flag("its address (default: --host)", "HOST"),
    "wyoming_zeroconf": Flag("tell the local network of it, so that Home Assistant finds it"),
}
_SPEAKING = {
    "engine": Flag(
        "auto takes the first that can be had: "
        + "; ".join(f"{entry.name}, {entry.about}" for entry in ENGINES),
        "|".join(engine_names()),
    ),
    "mode": Flag("where CSM-1B comes from"),
    "model": Flag("a fine-tune on the hub, as OWNER/NAME[@REVISION]", "REPO"),
    "model_path": Flag("a model or an adapter that is here", "PATH"),
    "adapter": Flag("a LoRA adapter, merged into the model", "PATH"),
    "device": Flag("where CSM-1B runs"),
    "precision": Flag("CSM-1B's weights: float32, int8 or int4 on a CPU, bfloat16 on CUDA"),
    "kokoro_path": Flag("Kokoro-82M's files, downloaded otherwise", "FOLDER"),
    "kokoro_precision": Flag("its weights"),
    "unload_after_s": Flag(
        "give the model's memory back when nobody used it for so long (default: never)", "SECONDS"
    ),
    "data_dir": Flag("folder for voices and prepared weights", "PATH"),
    "wait_for_model": Flag("open the port only when the model is loaded"),
    "speak_while_loading": Flag("the embedded voices speak while CSM-1B loads"),
    "lexicon": Flag("how words are pronounced; docs/text.md", "FILE"),
    "watermark": Flag("which speech can be recognized as made: auto is CSM-1B's and Kokoro-82M's"),
    "c2pa_cert": Flag("sign whole files: a certificate with its chain", "FILE"),
    "c2pa_key": Flag("its private key", "FILE"),
    "engine_urls": Flag("where engines on other machines are asked; repeatable", "URL"),
    "engine_key": Flag(
        "the key that those engines have, too; both sides prove it, neither sends it", "KEY"
    ),
    "default_voice": Flag("of requests that name none (default: speaker 0)", "VOICE"),
    "default_format": Flag(
        "of requests that name none, at one endpoint or all (basic, session, openai); repeatable",
        "[ENDPOINT=]FORMAT",
    ),
    "default_sample_rate": Flag(
        "the same of sample rates: 8000 is a telephone's; repeatable", "[ENDPOINT=]HZ"
    ),
    "default_speed": Flag("of requests that say none, 0.25 to 4", "N"),
    "voice_aliases": Flag(
        "another name for a voice; repeatable, OpenAI's names have one already", "NAME=VOICE"
    ),
}
_ENTERING = {
    "api_keys": Flag("let in only who has this key; repeatable", "KEY"),
    "allow_origins": Flag(
        "let web pages of this origin call the server; repeatable, * for all", "ORIGIN"
    ),
    "allow_hosts": Flag(
        "let browsers know the server by this name without TLS; repeatable, * for all", "NAME"
    ),
    "max_streams": Flag("requests spoken at once", "N"),
}
_TELLING = {"log_format": Flag("how the log looks")}
GROUPS = {
    "where it listens": _LISTENING,
    "what speaks": _SPEAKING,
    "who may come in": _ENTERING,
    "what it says": _TELLING,
}


def add_flags(parser: argparse.ArgumentParser, about: Mapping[str, str | None] | None) -> None:
    """Those of the settings in `about`, and what they mean there where that is their own; all
    where it is None."""
    for title, flags in GROUPS.items():
        wanted = [name for name in flags if about is None or name in about]
        group = parser.add_argument_group(title) if wanted else None
        for name in wanted:
            assert group is not None
            group.add_argument(
                flag_name(name),
                dest=name,
                **_options(name, flags[name], (about or {}).get(name)),
            )


def _options(name: str, flag: Flag, about: str | None) -> dict[str, Any]:
    setting = Settings.model_fields[name]
    if setting.annotation is bool:
        return {"help": about or flag.help, "action": "store_const", "const": True}
    is_told = isinstance(setting.default, (str, int)) and name != "engine"
    default = f" (default: {setting.default})" if is_told else ""
    return {
        "help": (about or flag.help) + default,
        "metavar": flag.metavar or "|".join(_values(setting.annotation)),
        "action": "append" if get_origin(setting.annotation) in (tuple, dict) else "store",
    }


def _values(annotation: Any) -> tuple[str, ...]:
    """The few that there are."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(value for part in get_args(annotation) for value in _values(part))
