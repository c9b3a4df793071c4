"""A Ray of our own on 127.0.0.2: started, asked, and ended by the ids of its processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from servers import REPOSITORY

ADDRESS = "127.0.0.2"
KEY = "a-key-of-the-cluster"
BIN = REPOSITORY / ".venv" / "ray" / "bin"
PATIENCE_S = 120


def why_no_ray() -> str | None:
    if not (BIN / "serve").exists():
        return "Ray is not installed here: make .venv/ray/stamp"
    if not Path("/proc").is_dir():
        return "there is no /proc to find Ray's processes by"
    return None


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server((ADDRESS, 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


class RayCluster:
    """One node with its dashboard, and Serve's proxy at `url`."""

    def __init__(self) -> None:
        # Ray's sockets lie in it, and their paths may have 107 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self._ports = _free_ports(6)
        self.dashboard = f"http://{ADDRESS}:{self._ports[1]}"
        self.url = f"http://{ADDRESS}:{self._ports[5]}"
        self._head: subprocess.Popen[bytes] | None = None
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_grpc_enable_http_proxy": "0",
            "TTS_PROVIDER_ENGINE_KEY": KEY,
        }

    def start(self) -> None:
        gcs, dashboard, agent, client, metrics, _ = map(str, self._ports)
        with (self.folder / "ray.log").open("ab") as log:
            self._head = subprocess.Popen(
                [
                    *(str(BIN / "ray"), "start", "--head", "--block"),
                    *("--node-ip-address", ADDRESS, "--port", gcs),
                    *("--dashboard-host", ADDRESS, "--dashboard-port", dashboard),
                    *("--dashboard-agent-listen-port", agent),
                    *("--ray-client-server-port", client, "--metrics-export-port", metrics),
                    *("--num-cpus", "4", "--num-gpus", "0"),
                    *("--object-store-memory", "80000000", "--temp-dir", str(self.folder)),
                ],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait(lambda: self._applications() is not None, "Ray's dashboard")

    def deploy(self, import_path: str = "tts_provider.cli.ray_app:build", **changes: Any) -> None:
        """Tell Serve to run our application, its deployment with these changes."""
        deployment = {
            "name": "EngineReplica",
            "num_replicas": 2,
            "ray_actor_options": {"num_cpus": 0.5},
            "max_ongoing_requests": 4,
            "max_queued_requests": 2,
            "health_check_period_s": 1,
            "health_check_timeout_s": 3,
            "graceful_shutdown_timeout_s": 30,
            "graceful_shutdown_wait_loop_s": 1,
            "rolling_update": {"max_surge_percent": 100},
            **changes,
        }
        config = {
            "proxy_location": "EveryNode",
            "http_options": {
                "host": ADDRESS,
                "port": self._ports[5],
                "keep_alive_timeout_s": 15,
            },
            "applications": [
                {
                    "name": "tts",
                    "route_prefix": "/",
                    "import_path": import_path,
                    "args": {
                        "engine": "espeak",
                        "max_streams": 4,
                        "data_dir": str(self.folder / "data"),
                    },
                    "deployments": [deployment],
                }
            ],
        }
        path = self.folder / "serve.yaml"
        path.write_text(json.dumps(config))  # which is YAML
        subprocess.run(
            [str(BIN / "serve"), "deploy", "--address", self.dashboard, str(path)],
            env=self.environment,
            cwd=self.folder,
            check=True,
            capture_output=True,
            timeout=PATIENCE_S,
        )

    def wait_running(self, count: int, without: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        """Until so many replicas run, none of them in these processes."""

        def are_running() -> bool:
            running = set(self.replicas())
            return len(running) == count and not running & without

        self._wait(are_running, f"{count} replicas")

    def replicas(self) -> dict[int, str]:
        """Those that run: process id → name."""
        applications = (self._applications() or {}).get("applications", {})
        deployments = applications.get("tts", {}).get("deployments", {})
        return {
            replica["pid"]: replica["replica_id"]
            for replica in deployments.get("EngineReplica", {}).get("replicas", [])
            if replica["state"] == "RUNNING"
        }

    def kill(self) -> None:
        """The machine is gone: all processes of the session that `start` opened."""
        if self._head is None:
            return
        while pids := self._processes(self._head.pid):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._head.poll()
            time.sleep(0.05)
        self._head.wait()
        self._head = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _processes(session: int) -> list[int]:
        pids = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == session and fields[0] != "Z":
                        pids.append(int(entry.name))
        return pids

    def _applications(self) -> dict[str, Any] | None:
        try:
            url = f"{self.dashboard}/api/serve/applications/"
            with urllib.request.urlopen(url, timeout=5) as reply:
                facts: dict[str, Any] = json.load(reply)
                return facts
        except OSError:
            return None

    def _wait(self, condition: Any, what: str) -> None:
        give_up_s = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > give_up_s:
                log = (self.folder / "ray.log").read_text("utf-8", "replace")
                raise AssertionError(f"{what} did not come: {self._applications()}\n{log[-3000:]}")
            time.sleep(0.2)
