from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from recordings import encode, speech, wav
from servers import ask, open_socket, receive, run_cli, running_server
from tts_provider.audio.decode import decode_audio
from tts_provider.audio.manifest import ManifestSigner, read_manifest
from tts_provider.errors import StartupError

TEXT = "The north wind and the sun."


def certificate(name, key, issuer=None, issuer_key=None) -> x509.Certificate:
    """An authority's own, or one that it issues for signing, as C2PA asks for it."""
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    is_authority, signing = issuer is None, issuer_key or key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if is_authority else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not is_authority,
                key_cert_sign=is_authority,
                crl_sign=is_authority,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
    )
    if not is_authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(signing, hashes.SHA256())


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> tuple[Path, Path]:
    """A certificate with its chain, and its key."""
    folder = tmp_path_factory.mktemp("c2pa")
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority = certificate("An authority", keys[0])
    chain = certificate("An operator", keys[1], authority, keys[0]), authority
    pem = serialization.Encoding.PEM
    (folder / "chain.pem").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    kind, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(keys[1].private_bytes(pem, kind, secret))
    (folder / "other.pem").write_bytes(keys[0].private_bytes(pem, kind, secret))
    return folder / "chain.pem", folder / "key.pem"


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "flac"])
async def test_a_whole_reply_says_what_it_is_and_who_signed_it(audio_format, identity):
    chain, key = identity
    plain = {}
    for settings in ({"c2pa_cert": chain, "c2pa_key": key}, {}):
        async with running_server(**settings) as server, open_socket(server) as socket:
            reply = await ask(socket, text=TEXT, format=audio_format)
            data = await receive(socket)
        assert reply["length_bytes"] == len(data)
        plain[bool(settings)] = data
    manifest = read_manifest(plain[True])
    assert manifest is not None
    assert manifest.generator.startswith("tts-provider ")
    assert manifest.signer == "An operator"
    assert manifest.is_synthetic
    assert manifest.is_intact
    assert read_manifest(plain[False]) is None
    assert np.array_equal(decode_audio(plain[True]), decode_audio(plain[False]))


async def test_what_has_no_place_for_one_and_streams_stay_as_they_are(identity):
    chain, key = identity
    async with (
        running_server(c2pa_cert=chain, c2pa_key=key) as server,
        open_socket(server) as socket,
    ):
        await ask(socket, text=TEXT, format="opus")
        assert b"c2pa" not in await receive(socket)
        reply = await ask(socket, text=TEXT, format="wav", stream=True)
        assert reply["status"] == "streaming"
        data = b""
        while isinstance(message := await receive(socket), bytes):
            data += message
        assert read_manifest(data) is None


def test_the_command_reads_it(identity, tmp_path):
    signed = ManifestSigner(*identity).sign(wav(speech()), "wav")
    (tmp_path / "signed.wav").write_bytes(signed)
    told = run_cli(tmp_path, "detect", "signed.wav").stdout
    assert "; manifest of tts-provider " in told
    assert told.rstrip().endswith(", synthetic, signed by An operator, intact")


def test_what_was_changed_afterwards_is_not_intact(identity):
    signed = bytearray(ManifestSigner(*identity).sign(wav(speech()), "wav"))
    signed[2000] ^= 1
    manifest = read_manifest(signed)
    assert manifest is not None
    assert not manifest.is_intact


@pytest.mark.parametrize("data", [b"", b"RIFF", wav(speech()), encode(speech(), "opus"), b"\xff\0"])
def test_what_has_none_says_nothing(data):
    assert read_manifest(data) is None


def test_what_cannot_sign_is_one_sentence_at_start(identity, tmp_path):
    chain, key = identity
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for certificate_path, key_path, problem in (
        (tmp_path / "none.pem", key, "cannot read --c2pa-cert"),
        (chain, text, "is no PEM key"),
        (text, key, "cannot sign"),
        (chain, key.with_name("other.pem"), "c2pa-key"),
    ):
        with pytest.raises(StartupError, match=problem):
            ManifestSigner(certificate_path, key_path)
