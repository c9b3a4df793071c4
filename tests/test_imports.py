"""The house: who may import whom, downwards only, and no cycle anywhere."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter

from rows import rows
from servers import REPOSITORY

PACKAGE = REPOSITORY / "src" / "tts_provider"
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
    for path in PACKAGE.rglob("*.py")
}

# A room imports from these rooms of ours, and from itself; the longest name that fits is the room.
# `server` itself is what stands above its rooms: routes, start and stop, the log.
BELOW_SERVER = {
    *("__init__", "errors", "config", "waiting", "keys", "audio", "speech", "voices", "jobs"),
}
ROOMS = {
    "errors": set(),
    "config": {"errors"},
    "cpus": set(),
    "database": {"errors"},
    "keys": {"errors", "config", "database"},
    "onnx_threads": set(),
    "waiting": {"errors"},
    "audio": {"__init__", "errors", "config", "cpus", "waiting"},
    "audio/watermark": {"errors", "audio", "onnx_threads"},
    "speech": {"errors", "config", "audio"},
    "speech/engine": {"errors"},
    "voices": {"errors", "config", "audio", "speech"},
    "jobs": {
        *("__init__", "errors", "config", "database", "waiting", "audio", "speech", "voices"),
    },
    "engines": {"errors", "config", "cpus", "waiting", "onnx_threads", "audio", "speech", "voices"},
    "server": {*BELOW_SERVER, "server"},
    "server/transport": {"errors", "config", "keys"},
    "server/service": {*BELOW_SERVER, "cpus"},
    "server/http": {*BELOW_SERVER, "server/transport", "server/service"},
    "server/dialects": {*BELOW_SERVER, "server/http", "server/transport", "server/service"},
    "server/connections": {
        *(*BELOW_SERVER, "server/dialects", "server/http", "server/transport", "server/service"),
    },
    "client": {"__init__"},
    "selection": {"errors", "config", "cpus", "speech", "engines"},
}
# A translator knows the contract and its fields: no other dialect, no socket, no clock.
TRANSLATORS = (
    *("dialect", "contexts", "fields", "native", "basic", "wyoming"),
    *("cartesia/websocket", "deepgram/websocket", "elevenlabs/websocket"),
)
ROOMS |= {
    f"server/dialects/{name}": {
        *("__init__", "errors", "config", "audio", "speech", "server/service"),
        *("server/dialects/dialect", "server/dialects/fields"),
    }
    for name in TRANSLATORS
}
# Requests of several endpoints have turns.
ROOMS["server/dialects/basic"] |= {"server/dialects/dialogue"}
ROOMS["server/dialects/dialogue"] = ROOMS["server/dialects/fields"]
# A service's HTTP shares with its WebSocket how requests are read and errors are worded.
ROOMS |= {
    f"server/dialects/{name}/http": {
        *(*BELOW_SERVER, "server/http", "server/transport", "server/service"),
        *("server/dialects/dialect", "server/dialects/fields", f"server/dialects/{name}"),
    }
    for name in ("cartesia", "deepgram", "elevenlabs")
}
ROOMS["server/dialects/elevenlabs/http"] |= {"server/dialects/dialogue"}
# Only here.
HOMES = {
    "httpx2": ("engines/remote", "engines/hub"),
    "ray": ("cli/ray_app",),
    "torch": ("engines/csm/torch", "engines/csm/files/ckpt"),
    "pypdfium2": ("jobs/read/formats/pdf",),
    "c2pa": ("audio/encode/manifest",),
    "cryptography": ("audio/encode/manifest",),
    "onnx": (
        *("engines/csm/onnx", "engines/hibari/graph", "engines/kokoro/network/cut"),
        "audio/watermark/network",
    ),
    "onnxruntime": (
        *(
            "engines/csm/onnx",
            "engines/hibari/graph",
            "engines/inference",
            "engines/kokoro/network/graph",
            "onnx_threads",
        ),
        "audio/watermark/network",
    ),
    "hibari": ("engines/hibari/package",),
    "espeakng_loader": ("engines/espeak/engine",),
}
MOST_MODULES = 12
"""In one folder; `normalize/` has a step a file."""
NO_ASYNCIO = {"engines/csm/scheduler", *(f"server/dialects/{name}" for name in TRANSLATORS)}


def imports_of(module: str) -> Iterator[str]:
    """What it imports, ours as a module's name here and others' by their first name."""
    path = PACKAGE / module
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, _, ours = name.partition(".")
            yield _module_of(ours) if top == "tts_provider" else top


def _module_of(name: str) -> str:
    """`speech.engine.Engine` is in the module `speech/engine`; names of the package itself are in
    its `__init__`."""
    parts = name.split(".")
    while parts and "/".join(parts) not in MODULES:
        parts.pop()
    return "/".join(parts) or "__init__"


def is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}/")


@rows("module", sorted(MODULES))
def test_a_module_imports_only_what_its_room_may(module):
    room = max((room for room in ROOMS if is_in(module, room)), key=len, default=None)
    for imported in imports_of(module):
        homes = HOMES.get(imported, (module,))
        assert any(is_in(module, home) for home in homes), imported
        assert not (imported == "asyncio" and module in NO_ASYNCIO)
        if room is not None and imported in MODULES:
            allowed = {room, *ROOMS[room]}
            assert any(is_in(imported, other) for other in allowed), imported


def test_there_is_no_cycle():
    graph = {module: set(imports_of(module)) & MODULES - {module} for module in MODULES}
    assert list(TopologicalSorter(graph).static_order())


def test_a_folder_is_read_at_a_glance():
    folders = Counter(
        path.parent.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    )
    crowded = {folder for folder, count in folders.items() if count > MOST_MODULES}
    assert crowded <= {"speech/normalize"}
