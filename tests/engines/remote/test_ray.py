"""A gateway before a real Ray Serve: what is said of replicas, machines and redeploys."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess

import httpx2
import pytest

from engines.remote.ray_cluster import BIN, KEY, RayCluster, why_no_ray
from engines.remote.running import collect, utterance
from engines.remote.test_engine import LONG_TEXT
from engines.remote.test_gateway import converse, session
from servers import REPOSITORY, ask, open_socket, receive, running_server, send
from tts_provider.engines.remote.engine import RemoteEngine
from tts_provider.errors import EngineLost

pytestmark = [
    pytest.mark.time_limit(600),  # a cluster starts and scales
    pytest.mark.skipif(why_no_ray() is not None, reason=str(why_no_ray())),
    pytest.mark.filterwarnings("default::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster():
    made = RayCluster()
    try:
        made.start()
        made.deploy()
        made.wait_running(2)
        yield made
    finally:
        made.close()


async def until(condition, patience_s=90) -> None:
    async def wait() -> None:
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.1)

    await asyncio.wait_for(wait(), patience_s)


@contextlib.asynccontextmanager
async def gateway(cluster, **settings):
    engine = RemoteEngine([cluster.url], KEY, silence_s=5.0)
    async with running_server(engine, is_ready=False, **settings) as server:
        await until(lambda: server.service.is_ready)
        yield server


async def begin(talk, context_id="c", text=LONG_TEXT) -> str:
    """A passage of 15 s, of which half a second was sent: the first message."""
    await send(talk, type="input_text.append", context_id=context_id, text=text)
    await send(talk, type="input_text.end", context_id=context_id)
    return (await receive(talk))["type"]


async def rest(talk) -> str:
    """How the context ends: an error's code, or `context.done`."""
    while True:
        body = await receive(talk)
        if isinstance(body, bytes) or body["type"] in ("audio.delta", "audio.segment"):
            continue
        if body["type"] == "error":
            assert (await receive(talk))["type"] == "context.done"
            return body["code"]
        return body["type"]


async def names_of(server) -> dict[str, str]:
    """Which replicas spoke, and how that ended."""
    async with httpx2.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{server.port}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("tts_remote_streams_total{")]
    return {line.split('"')[3]: line.split('"')[1] for line in lines}


@pytest.mark.parametrize("name", ["ray-serve.yaml", "rayservice.yaml"])
def test_serve_understands_the_file(name):
    program = (
        "import sys, warnings, yaml; warnings.simplefilter('error', FutureWarning)\n"
        "from ray.serve.schema import ServeDeploySchema\n"
        "file = yaml.safe_load(open(sys.argv[1]))\n"
        "config = yaml.safe_load(file['spec']['serveConfigV2']) if 'spec' in file else file\n"
        "(application,) = ServeDeploySchema.model_validate(config).applications\n"
        "print(application.import_path, *(d.name for d in application.deployments))"
    )
    command = [str(BIN / "python"), "-c", program, str(REPOSITORY / "deploy" / name)]
    reply = subprocess.run(command, capture_output=True, text=True, check=False)
    assert reply.stdout.split() == [
        "tts_provider.cli.ray_app:build",
        "EngineReplica",
    ], reply.stderr


async def test_both_replicas_speak_and_stop_when_they_are_told(cluster):
    async with gateway(cluster, max_ahead_s=0.5) as server:
        talks = [(await session(server))[0] for _ in range(6)]
        assert [await begin(talk) for talk in talks] == ["audio.delta"] * 6
        for talk in talks:
            await send(talk, type="context.cancel", context_id="c")
            while isinstance(body := await receive(talk), bytes) or (
                body["type"] != "context.cancelled"
            ):
                pass
        # The places are free again, in a moment.
        for talk in talks:
            names = (f"again-{number}" for number in itertools.count())
            while not (await converse(talk, next(names), "Hello there."))[0]:
                pass
        spoke = await names_of(server)
        assert set(spoke) == set(cluster.replicas().values())
        for talk in talks:
            await talk.close()


async def test_a_full_line_is_over_capacity(cluster):
    async with gateway(cluster, max_ahead_s=0.5) as server:
        talks = [(await session(server))[0] for _ in range(8)]
        for talk in talks:
            assert await begin(talk) == "audio.delta"
        # Eight are spoken and two may wait: of four more some are told so at once.
        sockets = [await open_socket(server) for _ in range(4)]
        asking = {asyncio.create_task(ask(socket, text="Hello.")) for socket in sockets}
        refused, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for task in refused:
            assert task.result()["code"] == "over_capacity"
            assert task.result()["retry_after_ms"] >= 1000
        for socket in talks:
            await socket.close()
        answers = await asyncio.gather(*waiting)
        assert any(answer["status"] == "success" for answer in answers)
        for socket in sockets:
            await socket.close()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_lost_replica_ends_no_stream_and_is_replaced(cluster, blow):
    await until(lambda: len(cluster.replicas()) == 2)
    async with gateway(cluster, max_ahead_s=0.5) as server:
        talks = [(await session(server))[0] for _ in range(4)]
        for talk in talks:
            assert await begin(talk) == "audio.delta"
        (victim, name), *_ = cluster.replicas().items()
        os.kill(victim, blow)
        ends = await asyncio.gather(*map(rest, talks))
        assert set(ends) == {"context.done"}  # the other replica says the rest
        assert (await names_of(server))[name] == "lost"
        for talk in talks:
            await talk.close()
        async with open_socket(server) as socket:
            assert (await ask(socket, text="Hello."))["status"] == "success"
        await asyncio.to_thread(cluster.wait_running, 2, {victim})


async def test_a_redeploy_finishes_what_is_spoken(cluster):
    async with gateway(cluster, max_ahead_s=0.5) as server:
        talks = [(await session(server))[0] for _ in range(3)]
        for talk in talks:
            assert await begin(talk) == "audio.delta"
        before = set(cluster.replicas())
        await asyncio.to_thread(cluster.deploy, ray_actor_options={"num_cpus": 0.4})
        ends = asyncio.gather(*map(rest, talks))
        async with open_socket(server) as socket:
            while not ends.done():
                assert (await ask(socket, text="Hello."))["status"] == "success"
                assert isinstance(await receive(socket), bytes)
        assert set(await ends) == {"context.done"}
        await asyncio.to_thread(cluster.wait_running, 2, before)
        for talk in talks:
            await talk.close()


async def test_the_gateway_survives_the_loss_of_everything(cluster):
    async with gateway(cluster, max_ahead_s=0.5) as server:
        talk, _ = await session(server)
        assert await begin(talk) == "audio.delta"
        await asyncio.to_thread(cluster.kill)
        assert await rest(talk) == "engine_lost"
        engine = server.service.engine
        await until(lambda: engine.problem is not None)
        with pytest.raises(EngineLost, match="no engine can be reached"):
            await collect(engine, utterance())
        url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient() as client:
            assert (await client.get(f"{url}/ready")).json() == {"status": "engine_lost"}
            assert (await client.get(f"{url}/health")).status_code == 200
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.deploy)
        await until(lambda: engine.problem is None)
        assert (await converse(talk, "again", "Hello there."))[0]
        await talk.close()
