"""Settings: flags > environment > `.env` > defaults, and every limit in one place.

A setting `max_streams` is the flag `--max-streams`, the variable `TTS_PROVIDER_MAX_STREAMS`, and
the same key in `.env`. `HF_TOKEN` and `HF_HOME` keep Hugging Face's own names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tts_provider.errors import StartupError, meant_name

PREFIX = "TTS_PROVIDER_"
_DEFAULT_PORT = 8765
ENV_FILE = Path(".env")
ENV_FILE_ENCODING = "utf-8-sig"  # Windows editors write a byte order mark
HUGGING_FACE_KEYS = ("HF_TOKEN", "HF_HOME")
_FLAGS = {
    "api_keys": "api-key",
    "allow_origins": "allow-origin",
    "allow_hosts": "allow-host",
    "voice_aliases": "voice-alias",
    "engine_urls": "engine-url",
    "unload_after_s": "unload-after",
}
_SERVICE_LINK = re.compile(
    PREFIX + r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w./-]*)?")
ENDPOINTS = ("basic", "session", "openai")
"""Those whose defaults can be chosen: `/`, `/v1/stream`, and OpenAI's routes."""
EVERYWHERE = ""
SECRET_SETTINGS = ("api_keys", "engine_key", "HF_TOKEN")


class Limits(BaseModel):
    """What one request, one connection and the whole server may ask for."""

    model_config = ConfigDict(hide_input_in_errors=True)

    max_text_characters: int = Field(20_000, ge=1)
    # Beside its text, which may have twelve for each character: `max_wire_bytes`.
    max_message_bytes: int = Field(64 * 1024, ge=1024)
    max_streams: int = Field(32, ge=1)
    max_queued_requests: int = Field(64, ge=0)
    max_pending_requests: int = Field(64, ge=1)
    # Of `/v1/audio/words`, which are read one at a time.
    max_words_requests: int = Field(16, ge=1)
    max_contexts: int = Field(8, ge=1)
    # Of a dialogue; the text's limit is over all of them.
    max_turns: int = Field(200, ge=1)
    # Half a minute of 16-bit audio at 24 kHz in base64.
    max_audio_message_bytes: int = Field(2 * 1024 * 1024, ge=1024)
    # Text, audio, flushes: all that a session's contexts have still to do.
    max_waiting_bytes: int = Field(8 * 1024 * 1024, ge=1024)
    # How long a writer pauses before a clause is spoken without the rest of its sentence.
    clause_pause_s: float = Field(0.3, gt=0)
    max_connections: int = Field(256, ge=1)
    # Beside them, those that may show their key in a message and have not.
    max_unauthenticated_connections: int = Field(16, ge=1)
    # Beside them, those to Wyoming's port, which has no keys.
    max_wyoming_connections: int = Field(64, ge=1)
    # Of any kind, those that have said nothing yet too. Less where the system allows less.
    max_sockets: int = Field(1024, ge=1)
    # What is looked at of one WebSocket's; faster than that it is read no further.
    max_frames_per_s: float = Field(1000.0, gt=0)
    max_bytes_per_s: float = Field(2.0 * 1024 * 1024, gt=0)
    flood_timeout_s: float = Field(30.0, gt=0)
    # Of one request: a reply, a file, a stream, a segment of a session, and a session's pauses that
    # wait. A reply in one message lies in memory whole: half an hour is 86 MB.
    max_reply_audio_s: float = Field(1800.0, gt=0)
    max_unsent_audio_s: float = Field(20.0, gt=0)
    # How far a session's context speaks ahead of its listener, where its client does not say.
    max_ahead_s: float = Field(20.0, gt=0)
    handshake_timeout_s: float = Field(10.0, gt=0)
    ping_interval_s: float = Field(20.0, gt=0)
    ping_timeout_s: float = Field(20.0, gt=0)
    idle_timeout_s: float = Field(300.0, gt=0)
    drain_timeout_s: float = Field(30.0, ge=0)
    max_voices: int = Field(1000, ge=0)
    max_job_upload_bytes: int = Field(32 * 1024 * 1024, ge=1024)
    max_jobs: int = Field(100, ge=1)
    max_jobs_per_key: int = Field(20, ge=1)
    max_kept_jobs_bytes: int = Field(4 * 1024**3, ge=0)
    keep_jobs_days: float = Field(7.0, ge=0)
    max_voice_upload_bytes: int = Field(10 * 1024 * 1024, ge=1024)
    max_voice_audio_s: float = Field(60.0, gt=0)
    max_enrolments: int = Field(4, ge=1)
    upload_timeout_s: float = Field(60.0, gt=0)
    # Of CSM-1B on a CPU, 1 to 6 GB each: those that were used last.
    max_prepared_weights: int = Field(4, ge=1)
    # Of one voice's adapter, as a file; in float32 rank 32 has 108 MB.
    max_adapter_bytes: int = Field(512 * 1024 * 1024, ge=1024)
    # Of voices, in memory: those that spoke last, and all of them together.
    max_adapters: int = Field(16, ge=1)
    max_adapters_memory_bytes: int = Field(1024 * 1024 * 1024, ge=1024)

    @property
    def max_wire_bytes(self) -> int:
        """Of a message or body with a text: the longest way to write a character in JSON, or in a
        form, has twelve bytes, two escapes of six."""
        return self.max_message_bytes + 12 * self.max_text_characters


class Settings(BaseSettings, Limits):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file_encoding=ENV_FILE_ENCODING,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    _ignored: tuple[str, ...] = ()

    host: str = Field("0.0.0.0", min_length=1)
    port: int = Field(_DEFAULT_PORT, ge=0, le=65535)
    # Of the server that commands speak through, and who signed its certificate.
    url: str | None = Field(None, min_length=1)
    ca: Path | None = None
    wyoming_port: int | None = Field(None, ge=0, le=65535)
    wyoming_host: str | None = Field(None, min_length=1)
    wyoming_zeroconf: bool = False
    mode: Literal["download", "reuse"] | None = None
    model: str | None = None  # a repository of the hub, with @revision where it is not main
    model_path: Path | None = None
    adapter: Path | None = None
    engine: str = Field("auto", min_length=1)  # selection.py knows the names
    engine_urls: Annotated[tuple[str, ...], NoDecode] = ()
    engine_key: SecretStr | None = None
    # Of requests that a gateway may make twice, where a replica is late.
    hedge_percent: float = Field(2.0, ge=0, le=100)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "int8", "int4"] = "auto"
    cuda_graphs: bool = True
    cuda_fixed_batch: bool = False
    cuda_kernels: bool = True
    wait_for_model: bool = False
    speak_while_loading: bool = False
    unload_after_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    kokoro_path: Path | None = None
    kokoro_precision: Literal["int8", "float32"] = "int8"
    kokoro_voices: Annotated[tuple[str, ...], NoDecode] = ()
    threads: int | None = Field(None, ge=1)
    normalize_text: bool = True
    follow_language: bool = True
    model_acts: bool = False
    lexicon: Path | None = None
    data_dir: Path = Field(default_factory=lambda: platformdirs.user_data_path("tts-provider"))
    speakers: Annotated[tuple[int, ...], NoDecode] = (0, 1)
    model_language: str = Field("en", pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")
    # Of requests that say nothing; None: what the model's generation_config.json says.
    temperature: float | None = Field(None, ge=0, le=2)
    top_k: int | None = Field(None, ge=1)
    depth_temperature: float | None = Field(None, ge=0, le=2)
    depth_top_k: int | None = Field(None, ge=1)
    speaker_prompts: Annotated[tuple[str, ...], NoDecode] = ()
    voice_aliases: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    # Of requests that say nothing. Formats and rates are by endpoint, or for `EVERYWHERE`.
    default_voice: str | None = Field(None, min_length=1)
    default_speed: float = Field(1.0, ge=0.25, le=4, allow_inf_nan=False)
    default_format: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    default_sample_rate: Annotated[dict[str, int], NoDecode] = Field(default_factory=dict)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    metrics_by_key: bool = False
    allow_origins: Annotated[tuple[str, ...], NoDecode] = ()
    allow_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    watermark: Literal["auto", "on", "off"] = "auto"
    c2pa_cert: Path | None = None
    c2pa_key: Path | None = None
    log_format: Literal["text", "json"] = "text"
    hf_token: SecretStr | None = Field(None, validation_alias="HF_TOKEN")
    hf_home: Path | None = Field(None, validation_alias="HF_HOME")

    @field_validator("voice_aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        items = cls._split_commas(value)
        aliases = {}
        for item in items:
            name, separator, voice = (part.strip() for part in item.partition("="))
            if not name or not separator or not voice:
                raise ValueError(f"expected NAME=VOICE; got {item!r}")
            aliases[name] = voice
        return aliases

    @field_validator("default_format", "default_sample_rate", mode="before")
    @classmethod
    def _split_by_endpoint(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        chosen = {}
        for item in cls._split_commas(value):
            endpoint, separator, choice = (part.strip() for part in item.lower().rpartition("="))
            if separator and endpoint not in ENDPOINTS:
                raise ValueError(
                    f"expected a value, or ENDPOINT=VALUE where ENDPOINT is one of "
                    f"{', '.join(ENDPOINTS)}; got {item!r}"
                )
            chosen[endpoint if separator else EVERYWHERE] = choice
        return chosen

    @field_validator("voice_aliases")
    @classmethod
    def _aliases_are_of_voices(cls, aliases: dict[str, str]) -> dict[str, str]:
        names = {name.lower(): voice for name, voice in aliases.items()}
        for name, voice in aliases.items():
            if (other := names.get(voice.lower())) is not None:
                raise ValueError(
                    f"{name} stands for {voice}, which is an alias too (of {other}): "
                    "name the voice itself"
                )
        return aliases

    @field_validator(
        *("api_keys", "allow_origins", "allow_hosts", "speaker_prompts", "engine_urls"),
        *("kokoro_voices", "speakers"),
        mode="before",
    )
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [item.strip() for item in value.split(",") if item.strip()]
        return value

    @field_validator("api_keys")
    @classmethod
    def _keys_are_header_safe(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            _check_key(key)
        return keys

    @field_validator("engine_key")
    @classmethod
    def _engine_keys_are_header_safe(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            for key in _split_keys(keys):
                _check_key(SecretStr(key))
        return keys

    @field_validator("engine_urls")
    @classmethod
    def _engine_urls_have_scheme_and_host(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            _check_engine_url(url)
        return tuple(dict.fromkeys(url.rstrip("/") for url in urls))

    @field_validator("allow_origins")
    @classmethod
    def _origins_have_scheme_and_host(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, separator, host = origin.partition("://")
            if origin != "*" and (not scheme or not separator or not host or "/" in host):
                raise ValueError(
                    f"expected SCHEME://HOST[:PORT] without a path, or *; got {origin!r}"
                )
        return tuple(origin.lower() for origin in origins)

    @field_validator("allow_hosts")
    @classmethod
    def _hosts_are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not host or any(sign in host for sign in "/:@") or (host != "*" and "*" in host):
                raise ValueError(f"expected a name without scheme and port, or *; got {host!r}")
        return tuple(host.lower().rstrip(".") for host in hosts)

    @field_validator("model")
    @classmethod
    def _model_is_a_repository(cls, name: str | None) -> str | None:
        if name is not None and (not _REPOSITORY.fullmatch(name) or ".." in name):
            raise ValueError(
                f"expected OWNER/NAME or OWNER/NAME@REVISION, as the hub calls it; got {name!r}"
            )
        return name

    @field_validator("speaker_prompts")
    @classmethod
    def _two_prompts_or_none(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) not in (0, 2):
            raise ValueError("expected two names, speaker 0's and speaker 1's, and a comma between")
        return names

    @field_validator("speakers")
    @classmethod
    def _speakers_are_numbers(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if not numbers or min(numbers) < 0 or max(numbers) > 9999 or len(numbers) > 256:
            raise ValueError("expected numbers from 0 to 9999, commas between, at most 256")
        return tuple(dict.fromkeys(numbers))

    @field_validator(
        *("data_dir", "model_path", "adapter", "kokoro_path", "hf_home", "lexicon"),
        *("c2pa_cert", "c2pa_key", "ca"),
    )
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        for source in (env_settings, dotenv_settings):
            assert isinstance(source, EnvSettingsSource)
            source.env_vars = {
                name: value
                for name, value in source.env_vars.items()
                if _is_known(name) and not _is_service_link(name, value)
            }
        return init_settings, env_settings, dotenv_settings

    @property
    def engine_keys(self) -> tuple[str, ...]:
        """A gateway proves that it has the first; a replica takes each, so that they can change."""
        return () if self.engine_key is None else _split_keys(self.engine_key)

    @property
    def server_url(self) -> str:
        """Where commands look for a server: the address that is set, or where `serve` would listen
        with these settings."""
        if self.url is not None:
            return self.url
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{host}]" if ":" in host else host
        return f"ws://{host}:{self.port or _DEFAULT_PORT}"

    @property
    def ignored(self) -> tuple[str, ...]:
        """What was found beside our settings, a sentence each."""
        return self._ignored

    def for_streams(self, own: int | None) -> Settings:
        """These, with as many streams as the engine bears by itself, where nobody said how many."""
        if own is None or "max_streams" in self.model_fields_set:
            return self
        return self.model_copy(update={"max_streams": own})

    def export_hugging_face(self) -> None:
        """Hand `HF_TOKEN` and `HF_HOME` to huggingface_hub, which reads them when imported."""
        # A server that speaks for you does not report to others unless you say so.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        if self.hf_token is not None:
            os.environ["HF_TOKEN"] = self.hf_token.get_secret_value()
        if self.hf_home is not None:
            os.environ["HF_HOME"] = str(self.hf_home)

    def check_data_dir(self) -> Path:
        """The data folder, made if need be. Raises `StartupError` where nothing can be written."""
        probe = self.data_dir / f".write-test-{os.getpid()}"
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StartupError(
                f"cannot write to the data folder {self.data_dir} ({error.strerror}); "
                "choose another with --data-dir"
            ) from error
        return self.data_dir


def flag_name(setting: str) -> str:
    """Of several values a flag has one; units are in its help."""
    return f"--{_FLAGS.get(setting, setting).replace('_', '-')}"


def _split_keys(keys: SecretStr) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.get_secret_value().split(","))


def _check_key(key: SecretStr) -> None:
    text = key.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a key is one or more printable ASCII characters without spaces")


def _check_engine_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or port == 0
        or parts.username is not None
        or parts.query
        or parts.fragment
        or not is_plain
    ):
        raise ValueError(
            f"expected http://HOST[:PORT] or https://HOST[:PORT], with a path where there is one, "
            f"without a key or a query; got {url!r}"
        )


def load_settings(flags: Mapping[str, Any], env_file: Path = ENV_FILE) -> Settings:
    """Settings from `flags` (only those given), the environment and `env_file`.

    Raises `StartupError` naming the setting, where it came from, its value and what is allowed.
    """
    file_keys = _check_env_file(env_file)
    for key, value in os.environ.items():
        if key.startswith(PREFIX) and not (_is_known(key) or _is_service_link(key, value)):
            raise StartupError(f"unknown setting {key} in the environment{_suggestion(key)}")
    try:
        settings = Settings(**flags, _env_file=env_file if file_keys else None)
    except ValidationError as error:
        raise StartupError(
            "; ".join(_describe(entry, flags, file_keys, env_file) for entry in error.errors())
        ) from None
    if settings.mode == "reuse" and not (settings.model_path or settings.model or settings.adapter):
        raise StartupError(
            "--mode reuse needs the model's folder: add --model-path PATH "
            "(or TTS_PROVIDER_MODEL_PATH)"
        )
    if settings.mode == "download" and settings.model_path is not None:
        raise StartupError(
            f"--mode download fetches a model, and --model-path {settings.model_path} is one that "
            "is here; give --mode reuse, or --model OWNER/NAME to fetch another"
        )
    if settings.model is not None and settings.model_path is not None:
        raise StartupError(
            "--model names a repository of the hub and --model-path a folder; give one of them"
        )
    if (settings.c2pa_cert is None) != (settings.c2pa_key is None):
        raise StartupError("--c2pa-cert and --c2pa-key go together: give both or neither")
    if "data_dir" in settings.model_fields_set:
        settings.check_data_dir()
    settings._ignored = tuple(_ignored(file_keys, env_file))
    return settings


def _known_keys() -> set[str]:
    own = {PREFIX + name.upper() for name in Settings.model_fields if not name.startswith("hf_")}
    return own | set(HUGGING_FACE_KEYS)


def _is_known(key: str) -> bool:
    return key.upper() in _known_keys()


def _is_service_link(key: str, value: str | None) -> bool:
    """Kubernetes tells every pod of every service, and of one that is called tts-provider in our
    names: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""
    is_address = re.match(r"(tcp|udp|sctp)://", value or "") is not None
    return key.upper().startswith(PREFIX) and (
        is_address or _SERVICE_LINK.fullmatch(key.upper()) is not None
    )


def _ignored(file_keys: Mapping[str, str | None], env_file: Path) -> Iterator[str]:
    links = [key for key, value in os.environ.items() if _is_service_link(key, value)]
    if links:
        yield f"{', '.join(sorted(links))}: set by Kubernetes for a service, and ignored"
    foreign = [key for key, value in file_keys.items() if not _is_known(key)]
    if foreign:
        yield f"{', '.join(foreign)} in {env_file}: not of this program, and ignored"


def _is_misspelt(key: str) -> bool:
    return key.upper().startswith(PREFIX) or meant_name(key, _known_keys()) is not None


def _suggestion(key: str) -> str:
    """What all settings have in common makes none of them a likely one."""
    own, names = key.upper(), {name: name for name in _known_keys()}
    if own.startswith(PREFIX):
        own = own.removeprefix(PREFIX)
        names = {name.removeprefix(PREFIX): name for name in names}
    meant = meant_name(own, names)
    return (
        f"; did you mean {names[meant]}?"
        if meant is not None
        else "; .env.template lists the settings there are"
    )


def _check_env_file(path: Path) -> dict[str, str | None]:
    """Keys and values of the file, empty where there is none; raises on what dotenv would skip."""
    try:
        with path.open(encoding=ENV_FILE_ENCODING) as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise StartupError(f"cannot read {path}: {reason}; correct or remove it") from None
    for binding in bindings:
        text = binding.original.string
        line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            raise StartupError(
                f"{path} line {line} is not KEY=VALUE: {text.strip().split('=')[0][:40]!r}"
            )
        key = binding.key
        if key is None or _is_known(key) or _is_service_link(key, binding.value):
            continue
        if _is_misspelt(key):
            raise StartupError(f"unknown setting {key} in {path} line {line}{_suggestion(key)}")
    return {b.key.upper(): b.value for b in bindings if b.key is not None}


def _describe(
    entry: Any, flags: Mapping[str, Any], file_keys: Mapping[str, str | None], env_file: Path
) -> str:
    name = str(entry["loc"][0])
    variable = name if name in HUGGING_FACE_KEYS else PREFIX + name.upper()
    environment = {key.upper(): value for key, value in os.environ.items()}
    if name in flags:
        where, value = flag_name(name), flags[name]
    elif environment.get(variable):
        where, value = f"{variable} in the environment", environment[variable]
    else:
        where, value = f"{variable} in {env_file}", file_keys.get(variable)
    shown = "" if name in SECRET_SETTINGS else f" is {value!r}"
    reason = entry["msg"].removeprefix("Value error, ")
    return f"{where}{shown}: {reason[0].lower()}{reason[1:]}"
