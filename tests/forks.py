"""Programs in Python that begin as a fork of a process that has imported what they import.

Imports are most of what a short `tts-provider …` costs: half a second of CPU time, four hundred
times in a run. A process that has done nothing else waits, and forks for each program that a test
starts: a child of the test's process as any other, with streams, folder, environment and signals
of its own. What must be known when Python starts or imports (another interpreter, PYTHONUTF8, a
system without Linux's subreapers) starts Python instead.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import functools
import gc
import importlib.util
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import Any

# What a command and a server with the embedded voice import. Not huggingface_hub, which reads
# its settings when it is imported, and no PyTorch.
PRELOADED = (
    *(f"tts_provider.cli.{name}" for name in ("main", "say", "doctor", "voices")),
    "tts_provider.engines.espeak.engine",
    "tts_provider.server.lifecycle",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "websockets.asyncio.client",
    *("anyio", "filelock", "httpx2", "tqdm.auto", "yaml"),  # what huggingface_hub imports
)
# Read when they are needed, not when Python starts or a module is imported.
_READ_LATE = (
    *("HOME", "COLUMNS", "TERM", "PYTHONUNBUFFERED", "PYTHONPATH"),
    "OPENBLAS_NUM_THREADS",  # a fork has no threads of it
    *("PYTEST_", "TTS_PROVIDER_", "HF_", "XDG_"),
)
_PR_SET_CHILD_SUBREAPER = 36


class Program(subprocess.Popen[Any]):
    """`subprocess.Popen` whose process is forked where its command and environment allow it."""

    def _execute_child(
        self,
        args: list[str],
        executable: Any,
        preexec_fn: Any,
        close_fds: bool,
        pass_fds: Any,
        cwd: Any,
        env: dict[str, str] | None,
        startupinfo: Any,
        creationflags: int,
        shell: bool,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        *others: Any,
    ) -> None:
        environment = dict(os.environ if env is None else env)
        if not (sys.platform == "linux" and args[0] == sys.executable and fits(environment)):
            super()._execute_child(  # type: ignore[misc]
                *(args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo),
                *(creationflags, shell, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite),
                *others,
            )
            return
        start_new_session = others[5]
        request = {
            "arguments": [str(argument) for argument in args[1:]],
            "folder": str(cwd or Path.cwd()),
            "environment": environment,
            "new_session": start_new_session,
            "interruptible": signal.getsignal(signal.SIGINT) is not signal.SIG_IGN,
        }
        streams = (p2cread, c2pwrite, errwrite)
        self.pid = server().fork(
            request, [given if given >= 0 else own for own, given in enumerate(streams)]
        )
        self._child_created = True
        self._close_pipe_fds(  # type: ignore[attr-defined]
            p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite
        )


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run` without `check`, both outputs captured."""
    given, timeout = options.pop("input", None), options.pop("timeout", None)
    stdin = {} if given is None else {"stdin": subprocess.PIPE}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Program(command, **stdin, **pipes, **options) as program:
        try:
            stdout, stderr = program.communicate(given, timeout)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(command, program.returncode, stdout, stderr)


def fork_subprocesses_of_asyncio() -> None:
    """Processes that decode uploads are forks then: each test that uploads starts two."""
    if sys.platform == "linux":
        asyncio.unix_events.subprocess = types.SimpleNamespace(  # type: ignore[attr-defined]
            PIPE=subprocess.PIPE, Popen=Program
        )


def fits(environment: dict[str, str]) -> bool:
    """Whether nothing else differs from what the process that waits was started with."""
    different = environment.items() ^ server().environment.items()
    return all(name.startswith(_READ_LATE) for name, _ in different)


class ForkServer:
    """The process that waits, as the test's process knows it."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self._lock = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, request: dict[str, Any], streams: list[int]) -> int:
        """The new child's process id."""
        set_subreaper = functools.partial(ctypes.CDLL(None).prctl, _PR_SET_CHILD_SUBREAPER)
        with self._lock:
            # What a fork's fork leaves behind becomes the child of whoever is a subreaper.
            set_subreaper(1, 0, 0, 0)
            try:
                socket.send_fds(self._channel, [json.dumps(request).encode()], streams)
                pid, adopted = self._channel.recv(32), self._channel.recv(32)
            finally:
                set_subreaper(0, 0, 0, 0)
        assert adopted, "the process that forks has ended; what it wrote says why"
        return int(pid)

    def close(self) -> None:
        self._channel.close()
        self._process.wait()


_server: ForkServer | None = None


def server() -> ForkServer:
    global _server
    if _server is None or not _server.is_alive:  # a time limit ends it with what it forked
        _server = ForkServer()
        atexit.register(_server.close)
    return _server


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Forks until the test's process has ended; in a fork, returns what it is to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_when_used("onnxruntime")  # it starts a thread
    for name in PRELOADED:
        importlib.import_module(name)
    assert len([*Path("/proc/self/task").iterdir()]) == 1, "threads do not survive a fork"
    gc.collect()
    gc.freeze()
    while True:
        message, streams, _, _ = socket.recv_fds(channel, 1 << 20, 3)
        if not message:
            return None
        orphaned, parents = os.pipe()  # closed when the child has come to the test's process
        if between := os.fork():
            os.waitpid(between, 0)
            channel.send(b"adopted")
            for descriptor in (orphaned, parents, *streams):
                os.close(descriptor)
        elif child := os.fork():
            channel.send(str(child).encode())
            os._exit(0)
        else:
            os.close(parents)
            os.read(orphaned, 1)
            os.close(orphaned)
            for own, descriptor in enumerate(streams):
                os.dup2(descriptor, own)
                os.close(descriptor)
            channel.close()
            request: dict[str, Any] = json.loads(message)
            return request


class _WhenUsed(types.ModuleType):
    """A module that is read when something of it is first used. `importlib.util.LazyLoader` reads
    it at the second `import` already.
    """

    def __getattr__(self, attribute: str) -> Any:
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__class__ = types.ModuleType
        self.__spec__.loader.exec_module(self)
        return getattr(self, attribute)


def _import_when_used(name: str) -> None:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    module.__class__ = _WhenUsed


def _begin(request: dict[str, Any]) -> None:
    """As Python begins: environment, folder, signals and streams."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if request["new_session"]:
        os.setsid()
    if request["interruptible"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for own, name in enumerate(("stdin", "stdout", "stderr")):
        binary: Any = open(  # noqa: SIM115
            own, "wb" if own else "rb", 0 if own and unbuffered else -1, closefd=False
        )
        stream = io.TextIOWrapper(
            binary,
            encoding=getattr(sys, name).encoding,
            errors=getattr(sys, name).errors,
            line_buffering=own == 2 or binary.isatty(),
            write_through=unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(arguments: list[str]) -> None:
    """`python ARGUMENTS`: with `-W error`, `-c CODE`, `-m MODULE` or a script; and `PYTHONPATH`."""
    if arguments[:2] == ["-W", "error"]:
        sys.warnoptions.append("error")
        warnings.simplefilter("error")
        arguments = arguments[2:]
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in path if folder and folder not in sys.path[1:]]
    what, *rest = arguments
    if what == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif what == "-m":
        sys.argv, sys.path[0] = rest, str(Path.cwd())
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(what).resolve().parent)
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__" and (_request := _serve(socket.socket(fileno=int(sys.argv[1])))):
    _begin(_request)
    _run(_request["arguments"])
