"""uvicorn promises nothing of its protocols' insides: whatever of them is used here is there."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap

import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.version import Version
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from servers import REPOSITORY
from tts_provider.server import lifecycle
from tts_provider.server.transport.http import HttpProtocol
from tts_provider.server.transport.websocket import WebSocketProtocol


def members_of(theirs: type) -> set[str]:
    """Its methods, and what it sets on itself."""
    return set(dir(theirs)) | set(re.findall(r"self\.(\w+)", inspect.getsource(theirs)))


def uses_of(ours: type) -> set[str]:
    """Members that it uses and does not make itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(ours)))
    used, made = set(), {*vars(ours), *vars(ours).get("__annotations__", {})}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_self = isinstance(node.value, ast.Name) and node.value.id == "self"
            is_super = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
            if is_super or (is_self and isinstance(node.ctx, ast.Load)):
                used.add((node.attr, is_super))
            elif is_self and node.attr.startswith("_"):
                made.add(node.attr)
    return {name for name, is_super in used if is_super or name not in made} - {"is_flooding"}


@pytest.mark.parametrize(
    ("ours", "theirs", "some"),
    [
        (WebSocketProtocol, WebSocketsSansIOProtocol, {"conn", "writable", "handle_connect"}),
        (HttpProtocol, H11Protocol, {"cycle", "flow", "on_response_complete"}),
        (lifecycle._Uvicorn, uvicorn.Server, {"startup"}),
    ],
)
def test_what_is_used_is_there(ours, theirs, some):
    used = uses_of(ours)
    assert used >= some
    assert used <= members_of(theirs)


def test_what_those_have_is_there():
    for theirs, names in [
        (RequestResponseCycle, {"response_complete", "response_started", "more_body"}),
        (RequestResponseCycle, {"disconnected", "message_event"}),
        (FlowControl, {"drain", "read_paused"}),
        (ServerState, {"tasks", "connections"}),
        (uvicorn.Server, {"server_state", "should_exit", "handle_exit"}),
    ]:
        assert names <= members_of(theirs)


def test_no_other_uvicorn_is_installed_unasked():
    text = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    (line,) = re.findall(r'^  "(uvicorn[^"]+)",$', text, re.M)
    allowed, installed = Requirement(line).specifier, Version(uvicorn.__version__)
    assert installed in allowed
    assert f"{installed.major}.{installed.minor + 1}" not in allowed
