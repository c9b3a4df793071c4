"""`scale_out.py`'s engine as an application of Ray Serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from scale_out import PacedEngine
from tts_provider import selection
from tts_provider.cli.ray_app import EngineReplica

CLOCK = selection.Entry(
    "clock", "80 ms every 80 ms", "", lambda settings: None, lambda settings, report: PacedEngine()
)


class ClockReplica(EngineReplica):
    def __init__(self, settings: dict[str, Any]) -> None:
        selection.ENGINES = (*selection.ENGINES, CLOCK)
        super().__init__({**settings, "engine": "clock", "max_streams": 64})


def build(args: Mapping[str, Any]) -> Application:
    deployment: Any = serve.deployment(name="EngineReplica")(serve.ingress()(ClockReplica))
    return deployment.bind(dict(args))
