"""The enrolled voices: one folder each, and no other state.

`<data folder>/voices/<id>/` holds `voice.json`, and `audio.flac`, `adapter/` or both. A rename
makes a voice appear or vanish as a whole; another rename changes whether it is shared, and nothing
else changes. So any number of servers and commands may use the folder without locks. Names that
begin with a dot are voices on their way in or out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import unicodedata
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tts_provider.audio.decode.decode import DECODED_RATE, decode_audio
from tts_provider.audio.encode.flac import write_flac
from tts_provider.audio.pcm import Samples
from tts_provider.config import Limits, Settings
from tts_provider.errors import InvalidRequest, TTSError, WireError
from tts_provider.speech.engine import Voice
from tts_provider.voices.enrolment import Gender, check_name, check_transcript, make_prompt

log = logging.getLogger(__name__)

ENROLLED = "enrolled"
"""The `source` of these voices."""

MAX_SPEAKER = 9999
_ID = re.compile(r"[a-z0-9_-]{1,64}")
# Windows opens a device for these, in any folder.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{p}{n}" for p in ("com", "lpt") for n in range(10)}
_SLUG_CHARACTERS = 40

_FACTS_FILE, _AUDIO_FILE, _ADAPTER_FOLDER = "voice.json", "audio.flac", "adapter"
# What peft's `save_pretrained` writes.
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
_MAX_FACTS_BYTES = 64 * 1024
_MAX_CODES_BYTES = 1024 * 1024  # a minute is 48 kB
_CODES_TYPE = np.dtype("<i2")
_COPIED_BYTES = 1024 * 1024  # at a time
_LEFT_BEHIND_S = 3600  # a hidden folder older than this belongs to nobody any more

# Follow no link, and never wait for the other end of a pipe.
_OPEN_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC")
)


class StoredAdapter(BaseModel):
    """What `voice.json` says of the voice's adapter."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of its two files, one after the other."""
    size_bytes: int = Field(gt=0)


class StoredVoice(BaseModel):
    """What `voice.json` says. A voice has a recording, an adapter, or both."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    version: Literal[1, 2] = 1
    """2 where it has an adapter, without which it would be another voice: releases that know none
    leave it out."""
    id: str
    name: str
    transcript: str | None
    """Of its recording."""
    consent: Literal[True]
    """Whose voice it is agreed; nothing else is stored."""
    consented_at: datetime
    consented_by: str | None = None
    """The name of the API key that said so."""
    created: datetime
    duration_ms: int | None = Field(gt=0)
    """Of its recording."""
    pitch_hz: float | None = Field(gt=0, allow_inf_nan=False)
    gender: Gender
    adapter: StoredAdapter | None = None
    speaker: int = Field(0, ge=0, le=MAX_SPEAKER)
    """The number that its adapter was trained with."""
    owner: str | None = None
    """The name of the API key that it belongs to; nobody's is everybody's."""
    shared: bool = False
    """Everybody may speak with it."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return check_name(name)

    @field_validator("transcript")
    @classmethod
    def _check_transcript(cls, transcript: str | None) -> str | None:
        return None if transcript is None else check_transcript(transcript)

    @model_validator(mode="after")
    def _check_parts(self) -> StoredVoice:
        if (self.transcript is None) != (self.duration_ms is None):
            raise ValueError("a recording has a transcript and a duration")
        if self.transcript is None and self.adapter is None:
            raise ValueError("it has neither a recording nor an adapter")
        if (self.adapter is not None) != (self.version == 2):
            raise ValueError("version 2 is of voices with an adapter")
        return self

    @property
    def has_recording(self) -> bool:
        return self.transcript is not None

    @property
    def is_shared(self) -> bool:
        """Whether every key may use it."""
        return self.shared or self.owner is None

    def voice(self) -> Voice:
        has_adapter = self.adapter is not None
        return Voice(self.id, self.name, self.gender, ENROLLED, has_adapter=has_adapter)


class Added(NamedTuple):
    voice: StoredVoice
    warnings: list[str]
    """What could be better about the recording."""


class VoiceStore:
    """Every method reads the folder again, so it sees what others changed. Methods block:
    milliseconds for `get` and `list`, up to seconds for `add`."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """`folder` need not exist; `add` creates it."""
        self._folder = folder
        self._limits = limits
        self._read: dict[str, tuple[tuple[int, ...], StoredVoice]] = {}
        self._warned: set[str] = set()

    def list(self) -> list[StoredVoice]:
        """All voices, oldest first. Damaged ones are left out and named in the log.

        Raises `WireError` if the folder cannot be read.
        """
        ids = self._ids()
        for forgotten in self._read.keys() - ids:
            self._read.pop(forgotten, None)
        voices = [voice for voice_id in ids if (voice := self.get(voice_id)) is not None]
        return sorted(voices, key=lambda voice: (voice.created, voice.id))

    def get(self, voice_id: str) -> StoredVoice | None:
        """The voice with that id; None if there is none, or it is damaged."""
        entry = self._entry(voice_id)
        if entry is None:
            return None
        try:
            about = os.lstat(entry / _FACTS_FILE)
            version = about.st_mtime_ns, about.st_size, about.st_ino
            read = self._read.get(voice_id)
            if read is None or read[0] != version:
                read = version, self._read_facts(entry)
                self._read[voice_id] = read
            return read[1]
        except FileNotFoundError as error:
            if entry.exists():  # else it was removed while we looked
                self._set_aside(voice_id, error)
        except (OSError, ValueError, TTSError) as error:
            self._set_aside(voice_id, error)
        return None

    def load_audio(self, voice_id: str) -> Samples:
        """The voice's recording, (n,) at 24 kHz. Raises `InvalidRequest` if there is none."""
        try:
            voice = self.get(voice_id)
            if voice is None or not voice.has_recording:
                raise FileNotFoundError("there is no such recording")
            path = self._folder / voice_id / _AUDIO_FILE
            data = _read_file(path, self._limits.max_voice_upload_bytes)
            return decode_audio(
                data,
                max_bytes=self._limits.max_voice_upload_bytes,
                max_audio_s=self._limits.max_voice_audio_s + 1,
            )
        except (OSError, ValueError, TTSError) as error:
            raise _gone(voice_id, error) from error

    def open_adapter(self, voice_id: str) -> Path:
        """The folder of the voice's adapter, with the files that were stored.

        Raises `InvalidRequest` if there is none, or it is damaged.
        """
        try:
            voice = self.get(voice_id)
            if voice is None or voice.adapter is None:
                raise FileNotFoundError("there is no such adapter")
            folder = self._folder / voice_id / _ADAPTER_FOLDER
            found = _digest_files(folder, None, self._limits.max_adapter_bytes)
            if found != voice.adapter:
                raise ValueError("its adapter is damaged: the digest is wrong")
        except (OSError, ValueError) as error:
            raise _gone(voice_id, error) from error
        return folder

    def load_codes(self, voice_id: str, codec: str) -> npt.NDArray[np.int64] | None:
        """The recording as `codec` encodes it, (frames, codebooks); None if it is not kept, or
        cannot be read."""
        entry = self._entry(voice_id)
        if entry is None:
            return None
        try:
            data = _read_file(entry / _codes_file(codec), _MAX_CODES_BYTES)
            codes = np.load(io.BytesIO(data), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if codes.dtype != _CODES_TYPE or codes.ndim != 2 or not codes.size or codes.min() < 0:
            return None
        widened: npt.NDArray[np.int64] = codes.astype(np.int64)
        return widened

    def keep_codes(self, voice_id: str, codec: str, codes: npt.NDArray[np.int64]) -> None:
        """Keep the codes of the recording beside it; they are removed with the voice. If they
        cannot be written, they are made again next time."""
        entry = self._entry(voice_id)
        if entry is None:
            return
        data = io.BytesIO()
        np.save(data, codes.astype(_CODES_TYPE))
        temporary = entry / f".{secrets.token_hex(8)}"
        try:
            _write_file(temporary, data.getvalue())
            temporary.replace(entry / _codes_file(codec))
        except OSError as error:
            log.warning("cannot store the codes of voice %s: %s", voice_id, error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()

    def check(self, name: str, transcript: str | None, consent: bool) -> tuple[str, str | None]:
        """Check whether a voice with this name may be added, before its recording is processed.
        Returns the name and the transcript as they are kept. Raises `InvalidRequest`,
        `WireError`."""
        name = check_name(name)
        transcript = None if transcript is None else check_transcript(transcript)
        if not consent:
            raise InvalidRequest(
                "consent must be true: confirm that the voice's owner has agreed to its use here",
                code="consent_required",
                param="consent",
            )
        self._check_room()
        return name, transcript

    def add(
        self,
        name: str,
        transcript: str | None,
        consent: bool,
        recording: Samples | None,
        adapter: Path | None = None,
        speaker: int = 0,
        *,
        owner: str | None = None,
        shared: bool = False,
    ) -> Added:
        """Enrol a voice of a recording, (n,) at 24 kHz, with its transcript, or of the adapter in
        the folder `adapter`, which was trained as `speaker` and is copied, or of both. `owner` is
        the name of the key that asks for it and has said that its speaker agrees.

        Raises `InvalidRequest` where no voice can be made of it, `WireError` where it cannot be
        written.
        """
        name, transcript = self.check(name, transcript, consent)
        prompt = None if recording is None else make_prompt(recording, transcript)
        pitch_hz = None if prompt is None else prompt.measured.pitch_hz
        now = datetime.now(timezone.utc).replace(microsecond=0)

        def describe(stored: StoredAdapter | None) -> StoredVoice:
            return StoredVoice(
                version=1 if stored is None else 2,
                id=_new_id(name),
                name=name,
                transcript=transcript,
                consent=True,
                consented_at=now,
                consented_by=owner,
                created=now,
                duration_ms=None if prompt is None else prompt.duration_ms,
                pitch_hz=None if pitch_hz is None else round(pitch_hz),
                gender="unknown" if prompt is None else prompt.gender,
                adapter=stored,
                speaker=speaker,
                owner=owner,
                shared=shared,
            )

        voice = self._write(describe, None if prompt is None else prompt.samples, adapter)
        return Added(voice, [] if prompt is None else prompt.warnings)

    def share(self, voice_id: str, shared: bool) -> StoredVoice | None:
        """Share the voice with everybody, or with its owner alone; None if there is no such voice.

        Raises `WireError` if it cannot be written.
        """
        stored, entry = self.get(voice_id), self._entry(voice_id)
        if stored is None or entry is None:
            return None
        changed = stored.model_copy(update={"shared": shared})
        temporary = entry / f".{secrets.token_hex(8)}"
        try:
            _write_file(temporary, changed.model_dump_json(indent=2).encode())
            temporary.replace(entry / _FACTS_FILE)
        except FileNotFoundError:
            return None  # somebody removed it meanwhile
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise _failed("changed", error) from error
        return self.get(voice_id)

    def remove(self, voice_id: str) -> bool:
        """Remove the voice, damaged or not; False if there is none.

        Raises `WireError` if it cannot be removed.
        """
        entry = self._entry(voice_id)
        if entry is None:
            return False
        hidden = self._folder / f".removed-{secrets.token_hex(8)}"
        try:
            entry.rename(hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError:
            return False  # somebody else was faster
        except OSError as error:
            raise _failed("removed", error) from error
        self._read.pop(voice_id, None)
        return True

    def _ids(self) -> set[str]:
        try:
            return {name for name in os.listdir(self._folder) if _is_id(name)}  # noqa: PTH208
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _failed("read", error) from error

    def _entry(self, voice_id: str) -> Path | None:
        """The voice's own folder; None if the id is not valid, or is not a folder."""
        if not _is_id(voice_id):
            return None
        entry = self._folder / voice_id
        try:
            about = os.lstat(entry)
        except OSError:
            return None
        # A link could lead anywhere; Windows has its own kind of link.
        attributes = getattr(about, "st_file_attributes", 0)
        is_link = bool(attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT)
        return entry if stat.S_ISDIR(about.st_mode) and not is_link else None

    def _read_facts(self, entry: Path) -> StoredVoice:
        voice = StoredVoice.model_validate_json(_read_file(entry / _FACTS_FILE, _MAX_FACTS_BYTES))
        if voice.id != entry.name:
            raise ValueError(f"it says that its id is {voice.id[:64]!r}")
        files = [_AUDIO_FILE] if voice.has_recording else []
        if voice.adapter is not None:
            if not stat.S_ISDIR(os.lstat(entry / _ADAPTER_FOLDER).st_mode):
                raise ValueError(f"its {_ADAPTER_FOLDER} is not a folder")
            files += [f"{_ADAPTER_FOLDER}/{name}" for name in _ADAPTER_FILES]
        for name in files:
            if not stat.S_ISREG(os.lstat(entry / name).st_mode):
                raise ValueError(f"its {name} is not a file")
        return voice

    def _set_aside(self, voice_id: str, error: Exception) -> None:
        self._read.pop(voice_id, None)
        if voice_id not in self._warned:
            self._warned.add(voice_id)
            if isinstance(error, ValidationError):
                first = error.errors(include_url=False, include_input=False)[0]
                reason = f"{'.'.join(map(str, first['loc'])) or _FACTS_FILE}: {first['msg']}"
            else:
                reason = getattr(error, "strerror", None) or str(error)
            log.warning("voice %s is damaged and left out: %s", voice_id, reason)

    def _check_room(self) -> None:
        voices, limit = len(self._ids()), self._limits.max_voices
        if voices >= limit:
            raise InvalidRequest(
                f"there are {voices} voices, and the limit is {limit}; remove one first",
                code="too_many_voices",
            )

    def _write(
        self,
        describe: Callable[[StoredAdapter | None], StoredVoice],
        samples: Samples | None,
        adapter: Path | None,
    ) -> StoredVoice:
        new: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
            if samples is not None:
                _write_file(new / _AUDIO_FILE, write_flac(samples, DECODED_RATE))
            stored = None
            if adapter is not None:
                (new / _ADAPTER_FOLDER).mkdir()
                stored = self._copy_adapter(adapter, new / _ADAPTER_FOLDER)
            voice = describe(stored)
            _write_file(new / _FACTS_FILE, voice.model_dump_json(indent=2).encode())
            new.rename(self._folder / voice.id)
        except OSError as error:
            raise _failed("stored", error) from error
        else:
            new = None
            return voice
        finally:
            if new is not None:
                shutil.rmtree(new, ignore_errors=True)

    def _copy_adapter(self, adapter: Path, to: Path) -> StoredAdapter:
        """Raises `InvalidRequest` where it cannot be read or is too large."""
        limit = self._limits.max_adapter_bytes
        size = sum(
            (adapter / name).stat().st_size for name in _ADAPTER_FILES if (adapter / name).is_file()
        )
        if size > limit:
            raise InvalidRequest(
                f"the adapter has {size} bytes, the limit is {limit} "
                "(TTS_PROVIDER_MAX_ADAPTER_BYTES); save it with fewer or in bfloat16",
                code="adapter_too_large",
                param="adapter",
            )
        try:
            # Links are followed: they are the user's own, such as those of the hub's cache.
            return _digest_files(adapter.resolve(), to, limit, follow=True)
        except ValueError as error:
            raise InvalidRequest(f"the adapter cannot be read: {error}", param="adapter") from None

    def _sweep(self) -> None:
        """Remove what was left behind by those who were killed while they wrote or removed."""
        for path in self._folder.glob(".*"):
            if path.name.startswith((".new-", ".removed-")) and not path.is_symlink():
                try:
                    age_s = time.time() - path.stat().st_mtime
                except OSError:
                    continue
                if age_s > _LEFT_BEHIND_S:
                    shutil.rmtree(path, ignore_errors=True)


def open_store(settings: Settings) -> VoiceStore:
    return VoiceStore(settings.data_dir / "voices", settings)


def _digest_files(
    folder: Path, copy_to: Path | None, max_bytes: int, *, follow: bool = False
) -> StoredAdapter:
    """An adapter's files as they are now, copied on the way where that is asked for.

    Raises `OSError`, or `ValueError` where one is no plain file or they are too large.
    """
    digest, size = hashlib.sha256(), 0
    for name in _ADAPTER_FILES:
        path = (folder / name).resolve() if follow else folder / name
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(_open_file(path))
            copy = None
            if copy_to is not None:
                copy = stack.enter_context((copy_to / name).open("xb"))
            while data := source.read(_COPIED_BYTES):
                size += len(data)
                if size > max_bytes:
                    raise ValueError(f"it is larger than {max_bytes} bytes")
                digest.update(data)
                if copy is not None:
                    copy.write(data)
            if copy is not None:
                copy.flush()
                os.fsync(copy.fileno())
    return StoredAdapter(sha256=digest.hexdigest(), size_bytes=size)


def _codes_file(codec: str) -> str:
    return f"codes-{codec}.npy"


def _is_id(name: str) -> bool:
    return _ID.fullmatch(name) is not None and name not in _DEVICES


def _new_id(name: str) -> str:
    """Something of the name, and enough chance that no other voice ever had the same."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    slug = re.sub(r"[^a-z0-9]+", "-", letters.encode("ascii", "ignore").decode())
    slug = slug[:_SLUG_CHARACTERS].strip("-") or "voice"
    return f"{slug}-{secrets.token_hex(4)}"


def _open_file(path: Path) -> BinaryIO:
    """Raises `OSError`, or `ValueError` where it is no plain file."""
    if path.is_symlink():  # where there is no O_NOFOLLOW
        raise ValueError(f"its {path.name} is a link")
    file = os.fdopen(os.open(path, _OPEN_FLAGS), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"its {path.name} is not a file")
    return file


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Raises `OSError`, or `ValueError` where it is no plain file or too large."""
    with _open_file(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"its {path.name} is larger than {max_bytes} bytes")
    return data


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _gone(voice_id: str, error: Exception) -> InvalidRequest:
    log.warning("voice %s cannot be read: %s", voice_id[:64], error)
    return InvalidRequest(
        f"voice {voice_id[:64]!r} is gone or damaged", code="unknown_voice", param="voice"
    )


def _failed(what: str, error: OSError) -> WireError:
    log.error("the voice store failed: %s", error)  # the path is no client's business
    return WireError(
        f"voices cannot be {what} on this server: {error.strerror}", code="storage_failed"
    )
