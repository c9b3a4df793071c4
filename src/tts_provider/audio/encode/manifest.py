"""Signed manifests in files: made by a model, by which software, when. C2PA's, with c2pa-python.

https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html
"""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from tts_provider import __version__
from tts_provider.audio.pcm import wav_header
from tts_provider.errors import StartupError, TTSError

INSTALL = "pip install 'tts-provider[c2pa]'"

_MEDIA_TYPES = {
    **dict.fromkeys(("wav", "wav-f32le", "wav-mulaw", "wav-alaw"), "audio/wav"),
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    # Of books only.
    "m4b": "audio/mp4",
    "epub": "application/epub+zip",
}
# The first bytes of files that can have a manifest.
_BEGINNINGS = {
    b"RIFF": "audio/wav",
    b"ID3": "audio/mpeg",
    b"\xff": "audio/mpeg",
    b"fLaC": "audio/flac",
}
# https://cv.iptc.org/newscodes/digitalsourcetype/
_MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_LONGEST_NAME = 200
# A file that names an address would have it asked.
_READING = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}


@dataclass(frozen=True)
class Manifest:
    """What a file's manifest says."""

    generator: str
    """The software, as it calls itself; like `signer` at most 200 characters."""
    signer: str
    """Whom the certificate names; whether that is true, who trusts its issuer knows."""
    is_intact: bool
    """Nothing was changed since it was signed."""
    is_synthetic: bool


class ManifestSigner:
    """Signs whole files with the operator's key. From any thread."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Both PEM, the certificate with its chain. Raises `StartupError` where one cannot be
        read, or a file that was signed with them is not valid."""
        try:
            import c2pa
        except ImportError:
            raise StartupError(
                f"--c2pa-cert needs c2pa-python, which is missing: {INSTALL}"
            ) from None
        self._c2pa: Any = c2pa
        self._certificate, self._key = (
            _read(path, flag) for path, flag in ((certificate, "cert"), (key, "key"))
        )
        self._algorithm = _algorithm(self._key, key)
        silence = wav_header(24_000, 4800) + bytes(4800)
        try:
            signed = read_manifest(self.sign(silence, "wav"))
        except c2pa.C2paError as error:
            raise StartupError(
                f"--c2pa-cert {certificate} and --c2pa-key {key} cannot sign: {error}"
            ) from None
        if signed is None or not signed.is_intact:
            raise StartupError(
                f"what --c2pa-key {key} signs is not valid for --c2pa-cert {certificate}: "
                "they must belong together, and the certificate be of the kind that C2PA wants"
            )

    def sign(self, data: bytes | bytearray, audio_format: str) -> bytes:
        """The same file with a manifest; as it is where its format has no place for one."""
        media_type = _MEDIA_TYPES.get(audio_format)
        if media_type is None:
            return bytes(data)
        signed = io.BytesIO()
        self._sign(media_type, io.BytesIO(data), signed)
        return signed.getvalue()

    def sign_file(self, path: Path, audio_format: str) -> None:
        """The same for a file on the disk, which may be long; it is whole before and after. Raises
        `OSError`, and `TTSError` where it cannot be signed."""
        media_type = _MEDIA_TYPES.get(audio_format)
        if media_type is None:
            return
        signed_path = path.with_name(f"{path.name}.signed")
        try:
            with path.open("rb") as file, signed_path.open("w+b") as signed:
                self._sign(media_type, file, signed)
                signed.flush()
                os.fsync(signed.fileno())
            signed_path.replace(path)
        except self._c2pa.C2paError as error:
            raise TTSError(f"{path} cannot be signed: {error}") from None
        finally:
            signed_path.unlink(missing_ok=True)

    def _sign(self, media_type: str, data: BinaryIO, signed: BinaryIO) -> None:
        information = self._c2pa.C2paSignerInfo(self._algorithm, self._certificate, self._key, None)
        with (
            self._c2pa.Signer.from_info(information) as signer,
            self._c2pa.Builder(json.dumps(_claim())) as builder,
        ):
            builder.sign(signer, media_type, data, signed)


def read_manifest(data: bytes | bytearray) -> Manifest | None:
    """What the manifest of a WAV, MP3, FLAC or M4B file says; None where it has none that can be
    read, or c2pa-python is not installed. Nothing is fetched. What a forged file does to the parser
    is bounded by the process only: files of strangers go to `decode_process`."""
    try:
        import c2pa
    except ImportError:
        return None
    kinds = (kind for beginning, kind in _BEGINNINGS.items() if data.startswith(beginning))
    media_type = "audio/mp4" if data[4:8] == b"ftyp" else next(kinds, None)
    if media_type is None:
        return None
    try:
        context = c2pa.Context(c2pa.Settings.from_dict(_READING))
        with context, c2pa.Reader(media_type, io.BytesIO(data), context=context) as reader:
            return _manifest(json.loads(reader.json()), reader.get_validation_state())
    except c2pa.C2paError:
        return None
    except (LookupError, TypeError, AttributeError):  # of a shape that C2PA does not have
        return None


def _manifest(told: dict[str, Any], state: str | None) -> Manifest:
    active = told["manifests"][told["active_manifest"]]
    generator = (active.get("claim_generator_info") or [{}])[0]
    software = f"{generator.get('name', '')} {generator.get('version', '')}"
    actions = [
        action
        for assertion in active.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", [])
    ]
    return Manifest(
        generator=software.strip()[:_LONGEST_NAME],
        signer=str(active.get("signature_info", {}).get("issuer") or "")[:_LONGEST_NAME],
        is_intact=state in ("Valid", "Trusted"),
        is_synthetic=any(a.get("digitalSourceType") == _MADE_BY_A_MODEL for a in actions),
    )


def _claim() -> dict[str, Any]:
    software = {"name": "tts-provider", "version": __version__}
    created = {
        "action": "c2pa.created",
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "digitalSourceType": _MADE_BY_A_MODEL,
        "softwareAgent": software,
    }
    return {
        "claim_generator_info": [software],
        "title": "Synthetic speech",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [created]}}],
    }


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read --c2pa-{flag} {path}: {error.strerror}") from None


def _algorithm(key: bytes, path: Path) -> str:
    """The name that C2PA has for what this key signs with."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise StartupError(f"--c2pa-key {path} is no PEM key without a password: {error}") from None
    if isinstance(private, ec.EllipticCurvePrivateKey):
        names = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in names:
            return names[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    raise StartupError(
        f"--c2pa-key {path} is of a kind that C2PA does not know: P-256, P-384, P-521, Ed25519, RSA"
    )
