"""The playground's files, as HTTP serves them and as the wheel carries them."""

from __future__ import annotations

import re
import zipfile

import httpx2
import pytest
from hatchling.builders.wheel import WheelBuilder

from servers import REPOSITORY, running_server
from tts_provider.server.http.page import accepts_html

WEB = REPOSITORY / "src" / "tts_provider" / "web"
FILES = sorted(path.name for path in WEB.iterdir())
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def fetch(server, path: str, method: str = "GET", **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await client.request(method, f"http://127.0.0.1:{server.port}{path}", headers=sent)


async def test_browsers_get_a_page_and_programs_a_line():
    async with running_server(api_keys="k") as server:
        page = await fetch(server, "/", **BROWSER)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = await fetch(server, "/", Accept="*/*")
        assert (text.status_code, text.headers["content-type"]) == (
            200,
            "text/plain; charset=utf-8",
        )
        assert page.headers["vary"] == text.headers["vary"] == "Accept"
        head = await fetch(server, "/", "HEAD", **BROWSER)
        assert (head.status_code, head.content) == (200, b"")
        assert (await fetch(server, "/", "POST")).status_code == 401


async def test_files_are_open_typed_and_asked_for_anew():
    types = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
    async with running_server(api_keys="k") as server:
        for name in FILES:
            reply = await fetch(server, f"/web/{name}")
            kind = types.get(name[name.rindex(".") :], "image/svg+xml")
            assert (reply.status_code, reply.headers["content-type"].split(";")[0]) == (200, kind)
            assert reply.content == (WEB / name).read_bytes()
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["cache-control"] == "no-cache"
            etag = reply.headers["etag"]
            for known in (etag, f'"other", W/{etag}', "*"):
                again = await fetch(server, f"/web/{name}", If_None_Match=known)
                assert (again.status_code, again.content) == (304, b"")
            assert (await fetch(server, f"/web/{name}", If_None_Match='"o"')).status_code == 200


@pytest.mark.parametrize(
    "path", ["/web/", "/web/nothing.js", "/web/..%2Fpy.typed", "/web/%2e%2e%2Fserver/page.py"]
)
async def test_there_are_no_other_files(path):
    async with running_server() as server:
        reply = await fetch(server, path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")
        assert (await fetch(server, "/web/app.js", "POST")).status_code == 405


async def test_the_page_is_not_in_the_openapi_document():
    async with running_server() as server:
        paths = (await fetch(server, "/openapi.json")).json()["paths"]
        assert not [path for path in paths if path == "/" or path.startswith("/web")]


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER["Accept"], True),
        ("TEXT/HTML;q=0.5", True),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        ("application/json, text/plain", False),
    ],
)
def test_who_is_a_browser(accept, html):
    assert accepts_html(accept) is html


def test_all_that_the_page_refers_to_is_there():
    for name in FILES:
        text = (WEB / name).read_text()
        referred = re.findall(r"""(?:src|href)="web/([^"]+)"|from '\./([^']+)'""", text)
        assert {one or other for one, other in referred} <= set(FILES)
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)
        assert "innerHTML" not in text


def test_the_wheel_has_them(tmp_path, monkeypatch):
    monkeypatch.setenv("WITHOUT_TTS_KERNELS", "1")  # tests/test_build.py compiles them
    (built,) = WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        assert {f"tts_provider/web/{name}" for name in FILES} <= set(wheel.namelist())
