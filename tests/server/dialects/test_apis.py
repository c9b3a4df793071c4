"""What each API's record says holds on the server, whichever APIs there are."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from servers import open_socket, running_server
from tts_provider.audio.encode.encode import FORMATS, create_encoder
from tts_provider.audio.encode.format import AUDIO_FORMATS
from tts_provider.errors import Unauthorized
from tts_provider.server.dialects import APIS, KEYS
from tts_provider.server.dialects.api import Api

KEY = "k3y"
IDS = [api.name for api in APIS]


def path_of(route: str) -> str:
    return route.format(voice="male").removeprefix("/")


def ways_to_show(api: Api) -> Iterator[tuple[str, dict[str, str]]]:
    """Query and headers."""
    for scheme in api.keys.schemes:
        yield "", {"Authorization": f"{scheme.capitalize()} {KEY}"}
    for header in api.keys.headers:
        yield "", {header: KEY}
    for names in api.keys.in_address.values():
        for name in names:
            yield f"?{name}={KEY}", {}


@pytest.fixture
async def server():
    async with running_server(api_keys=KEY) as running:
        yield running


@pytest.mark.parametrize("api", APIS, ids=IDS)
async def test_a_key_is_taken_wherever_its_clients_put_it(api, server):
    for route in api.sockets:
        for query, headers in ways_to_show(api):
            path = path_of(route) + query
            async with open_socket(server, path=path, additional_headers=headers):
                pass


@pytest.mark.parametrize("api", APIS, ids=IDS)
async def test_a_refusal_is_in_its_own_words(api, server):
    for route in api.sockets:
        wrong = {"X-API-Key": "wrong"}
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(server, path=path_of(route), additional_headers=wrong):
                pass
        body = json.loads(caught.value.response.body)
        words = {"title", "err_code", "detail", "error"} & set(body)
        own = api.errors.body(Unauthorized("no")) if api.errors else {"error": {}}
        assert words == {"title", "err_code", "detail", "error"} & set(own)


def test_no_api_has_what_another_has():
    for what in (
        [route for api in APIS for route in api.sockets],
        [voice.lower() for api in APIS for voice in api.voices],
        [*KEYS.schemes, *KEYS.headers],
    ):
        assert len(what) == len(set(what))


@pytest.mark.parametrize("name", FORMATS)
def test_a_formats_record_is_true(name):
    samples = np.full(4800, 0.25, np.float32)
    encoder = create_encoder(name, 24_000, 24_000)
    start = encoder.start()
    data = encoder.push(samples) + encoder.finish()
    facts = AUDIO_FORMATS[name]
    if facts.sample_bytes is not None:
        assert len(data) == facts.sample_bytes * len(samples)
        assert facts.can_be_cut == (start == b"")
    else:
        assert len(start + data) < 2 * len(samples)
