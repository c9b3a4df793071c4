"""The settings that are flags too. `config.py` has their values and defaults."""

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
    """None if the setting has a few values, or is a switch."""


_LISTENING = {
    "host": Flag("address to listen on", "HOST"),
    "port": Flag("port; 0 chooses a free one", "PORT"),
    "wyoming_port": Flag("port for Home Assistant, usually 10200", "PORT"),
    "wyoming_host": Flag("address for Home Assistant (default: --host)", "HOST"),
    "wyoming_zeroconf": Flag("announce that port, so that Home Assistant finds it"),
}
_SPEAKING = {
    "engine": Flag(
        "auto chooses the first that is available: "
        + "; ".join(f"{entry.name}, {entry.about}" for entry in ENGINES),
        "|".join(engine_names()),
    ),
    "mode": Flag("download CSM-1B, or only reuse files that are here"),
    "model": Flag("a fine-tune on the hub, as OWNER/NAME[@REVISION]", "REPO"),
    "model_path": Flag("a model or an adapter on this machine", "PATH"),
    "adapter": Flag("a LoRA adapter, merged into the model", "PATH"),
    "device": Flag("where CSM-1B runs"),
    "precision": Flag("CSM-1B's weights: float32, int8 or int4 on a CPU, bfloat16 on CUDA"),
    "kokoro_path": Flag("Kokoro-82M's files (default: download them)", "FOLDER"),
    "kokoro_precision": Flag("Kokoro-82M's weights"),
    "unload_after_s": Flag(
        "free the model's memory when nobody has used it for so long (default: never)", "SECONDS"
    ),
    "wait_for_model": Flag("open the port only when the model is loaded"),
    "speak_while_loading": Flag("let the embedded voices speak while CSM-1B loads"),
    "lexicon": Flag("pronunciation dictionary; docs/text.md", "FILE"),
    "watermark": Flag("put a watermark on speech: auto on that of CSM-1B and Kokoro-82M"),
    "c2pa_cert": Flag("certificate with its chain, to sign whole files", "FILE"),
    "c2pa_key": Flag("private key of --c2pa-cert", "FILE"),
    "engine_urls": Flag("an engine on another machine; repeatable", "URL"),
    "engine_key": Flag(
        "key shared with those engines; both sides prove it, and neither sends it", "KEY"
    ),
    "default_voice": Flag("voice if a request names none (default: speaker 0)", "VOICE"),
    "default_format": Flag(
        "format if a request names none, at one endpoint (basic, session, openai) or all; "
        "repeatable",
        "[ENDPOINT=]FORMAT",
    ),
    "default_sample_rate": Flag(
        "sample rate if a request names none, 8000 for telephones; repeatable", "[ENDPOINT=]HZ"
    ),
    "default_speed": Flag("speed if a request names none, 0.25 to 4", "N"),
    "voice_aliases": Flag(
        "another name for a voice; OpenAI's names select voices already; repeatable", "NAME=VOICE"
    ),
}
_ENTERING = {
    "api_keys": Flag("only clients with this key may connect; repeatable", "KEY"),
    "allow_origins": Flag(
        "let web pages of this origin use the server; * for all; repeatable", "ORIGIN"
    ),
    "allow_hosts": Flag(
        "let browsers reach the server by this name without TLS; * for all; repeatable", "NAME"
    ),
    "max_streams": Flag("requests spoken at once", "N"),
}
_STORAGE = {"data_dir": Flag("folder for voices, keys, jobs and prepared weights", "PATH")}
_TELLING = {"log_format": Flag("format of the log")}
GROUPS = {
    "network": _LISTENING,
    "speech": _SPEAKING,
    "access": _ENTERING,
    "storage": _STORAGE,
    "log": _TELLING,
}


def add_flags(parser: argparse.ArgumentParser, about: Mapping[str, str | None] | None) -> None:
    """Add the flags of the settings in `about`, with their own help if they have one there; all
    flags if it is None."""
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
