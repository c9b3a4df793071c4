"""The voices that users enrolled: one folder each, and no other state.

`<data folder>/voices/<id>/` holds `voice.json` and `audio.flac`. A voice appears and vanishes as a
whole, by a rename, and never changes, so any number of servers and commands may share the folder
without locks. Names that begin with a dot are voices on their way in or out.
"""

from __future__ import annotations

import contextlib
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
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

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

_ID = re.compile(r"[a-z0-9_-]{1,64}")
# Windows opens a device for these, in any folder.
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{p}{n}" for p in ("com", "lpt") for n in range(10)}
_SLUG_CHARACTERS = 40

_FACTS_FILE, _AUDIO_FILE = "voice.json", "audio.flac"
_MAX_FACTS_BYTES = 64 * 1024
_MAX_CODES_BYTES = 1024 * 1024  # a minute is 48 kB
_CODES_TYPE = np.dtype("<i2")
_LEFT_BEHIND_S = 3600  # a hidden folder older than this belongs to nobody any more

# Never through a link, and never waiting for the other end of a pipe.
_OPEN_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC")
)


class StoredVoice(BaseModel):
    """What `voice.json` says."""

    model_config = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    version: Literal[1] = 1
    id: str
    name: str
    transcript: str
    consent: Literal[True]
    """Whose voice it is agreed; nothing else is stored."""
    consented_at: datetime
    created: datetime
    duration_ms: int = Field(gt=0)
    pitch_hz: float | None = Field(gt=0, allow_inf_nan=False)
    gender: Gender

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        return check_name(name)

    @field_validator("transcript")
    @classmethod
    def _check_transcript(cls, transcript: str) -> str:
        return check_transcript(transcript)

    def voice(self) -> Voice:
        return Voice(self.id, self.name, self.gender, ENROLLED)


class Added(NamedTuple):
    voice: StoredVoice
    warnings: list[str]
    """What could be better about the recording."""


class VoiceStore:
    """Every method reads the folder anew, so what others changed is seen. They block: milliseconds
    for `get` and `list`, up to seconds for `add`."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        """`folder` need not exist; `add` makes it."""
        self._folder = folder
        self._limits = limits
        self._read: dict[str, tuple[tuple[int, ...], StoredVoice]] = {}
        self._warned: set[str] = set()

    def list(self) -> list[StoredVoice]:
        """All voices, oldest first. One that is damaged is left out and named in the log.

        Raises `WireError` where the folder cannot be read.
        """
        ids = self._ids()
        for forgotten in self._read.keys() - ids:
            self._read.pop(forgotten, None)
        voices = [voice for voice_id in ids if (voice := self.get(voice_id)) is not None]
        return sorted(voices, key=lambda voice: (voice.created, voice.id))

    def get(self, voice_id: str) -> StoredVoice | None:
        """The voice of that id; None where there is none, or it is damaged."""
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
        """The voice's recording, (n,) at 24 kHz. Raises `InvalidRequest` where there is none."""
        try:
            if self.get(voice_id) is None:
                raise FileNotFoundError("there is no such voice")
            path = self._folder / voice_id / _AUDIO_FILE
            data = _read_file(path, self._limits.max_voice_upload_bytes)
            return decode_audio(
                data,
                max_bytes=self._limits.max_voice_upload_bytes,
                max_audio_s=self._limits.max_voice_audio_s + 1,
            )
        except (OSError, ValueError, TTSError) as error:
            log.warning("voice %s cannot be read: %s", voice_id[:64], error)
            raise InvalidRequest(
                f"voice {voice_id[:64]!r} is gone or damaged", code="unknown_voice", param="voice"
            ) from error

    def load_codes(self, voice_id: str, codec: str) -> npt.NDArray[np.int64] | None:
        """The recording as `codec` encodes it, (frames, codebooks); None where that is not kept,
        or cannot be read."""
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
        """Keep the recording's codes beside it; they go when the voice goes. Where they cannot be
        written, they are made again next time."""
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
            log.warning("the codes of voice %s cannot be kept: %s", voice_id, error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()

    def check(self, name: str, transcript: str, consent: bool) -> tuple[str, str]:
        """Whether a voice may be added that is called so, before its recording is looked at; the
        name and the transcript as they are kept. Raises `InvalidRequest`, `WireError`."""
        name, transcript = check_name(name), check_transcript(transcript)
        if not consent:
            raise InvalidRequest(
                "consent must be true: the person whose voice this is has agreed to its use here",
                code="consent_required",
                param="consent",
            )
        self._check_room()
        return name, transcript

    def add(self, name: str, transcript: str, consent: bool, recording: Samples) -> Added:
        """Enrol a voice; its recording is (n,) at 24 kHz.

        Raises `InvalidRequest` where no voice can be made of it, `WireError` where it cannot be
        written.
        """
        name, transcript = self.check(name, transcript, consent)
        prompt = make_prompt(recording, transcript)
        now = datetime.now(timezone.utc).replace(microsecond=0)
        voice = StoredVoice(
            id=_new_id(name),
            name=name,
            transcript=transcript,
            consent=True,
            consented_at=now,
            created=now,
            duration_ms=prompt.duration_ms,
            pitch_hz=None if prompt.measured.pitch_hz is None else round(prompt.measured.pitch_hz),
            gender=prompt.gender,
        )
        self._write(voice, prompt.samples)
        return Added(voice, prompt.warnings)

    def remove(self, voice_id: str) -> bool:
        """Forget the voice, damaged or not; False where there is none.

        Raises `WireError` where it cannot be removed.
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
        """The voice's own folder; None where the id is none, or what is there is no folder."""
        if not _is_id(voice_id):
            return None
        entry = self._folder / voice_id
        try:
            about = os.lstat(entry)
        except OSError:
            return None
        # A link could lead anywhere; Windows has its own kind of them.
        attributes = getattr(about, "st_file_attributes", 0)
        is_link = bool(attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT)
        return entry if stat.S_ISDIR(about.st_mode) and not is_link else None

    def _read_facts(self, entry: Path) -> StoredVoice:
        voice = StoredVoice.model_validate_json(_read_file(entry / _FACTS_FILE, _MAX_FACTS_BYTES))
        if voice.id != entry.name:
            raise ValueError(f"it says that its id is {voice.id[:64]!r}")
        if not stat.S_ISREG(os.lstat(entry / _AUDIO_FILE).st_mode):
            raise ValueError(f"its {_AUDIO_FILE} is not a file")
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
                f"there are {voices} voices, the limit is {limit}; remove one first",
                code="too_many_voices",
            )

    def _write(self, voice: StoredVoice, samples: Samples) -> None:
        new: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
            _write_file(new / _AUDIO_FILE, write_flac(samples, DECODED_RATE))
            _write_file(new / _FACTS_FILE, voice.model_dump_json(indent=2).encode())
            new.rename(self._folder / voice.id)
        except OSError as error:
            if new is not None:
                shutil.rmtree(new, ignore_errors=True)
            raise _failed("stored", error) from error

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


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Raises `OSError`, or `ValueError` where it is no plain file or too large."""
    if path.is_symlink():  # where there is no O_NOFOLLOW
        raise ValueError(f"its {path.name} is a link")
    with os.fdopen(os.open(path, _OPEN_FLAGS), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"its {path.name} is not a file")
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"its {path.name} is larger than {max_bytes} bytes")
    return data


def _write_file(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _failed(what: str, error: OSError) -> WireError:
    log.error("the voice store failed: %s", error)  # the path is no client's business
    return WireError(
        f"voices cannot be {what} on this server: {error.strerror}", code="storage_failed"
    )
