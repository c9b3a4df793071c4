"""Addresses and certificates, with a server whose certificate nobody but its file vouches for."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import serve

from rows import rows
from tts_provider.client import AsyncTTSClient, ConnectionFailed, TTSClient
from tts_provider.client.address import socket_url


@rows(
    ("told", "meant"),
    [
        ("http://a:1/x", "ws://a:1/x"),
        ("HTTPS://a", "wss://a"),
        ("ws://a", "ws://a"),
        ("ftp://a", "ftp://a"),
        ("a:80", "a:80"),
    ],
)
def test_http_is_taken_as_what_it_means(told, meant):
    assert socket_url(told) == meant


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """One of 127.0.0.1's own, and its key."""
    folder: Path = tmp_path_factory.mktemp("certificates")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain, unlocked = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.pem").write_bytes(signed.public_bytes(pem))
    (folder / "server.key").write_bytes(key.private_bytes(pem, plain, unlocked))
    return folder / "server.pem", folder / "server.key"


async def test_a_certificate_of_ones_own(certificate):
    async def answer(socket) -> None:
        await socket.recv()
        await socket.send(json.dumps({"status": "success", "engine": "none"}))
        await socket.wait_closed()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with serve(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with AsyncTTSClient(url, ca_file=certificate[0]) as client:
            assert (await client.info())["engine"] == "none"
        async with AsyncTTSClient(url, attempts=1) as client:
            with pytest.raises(ConnectionFailed, match=r"does not trust the certificate.*--ca"):
                await client.info()


def test_certificates_that_cannot_be(tmp_path, certificate):
    (tmp_path / "empty.pem").write_text("nothing")
    for url, file, message in [
        ("ws://a", certificate[0], "is without TLS"),
        ("wss://a", tmp_path / "none.pem", "none.pem: No such file"),
        ("wss://a", tmp_path / "empty.pem", "none in the format PEM"),
    ]:
        with pytest.raises(ConnectionFailed, match=message):
            TTSClient(url, ca_file=file)
