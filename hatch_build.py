"""Compiles CSM's kernels into the package while it is built, so that no machine needs a compiler.

`zig cc`, of the PyPI package `ziglang`, makes one shared library for each kind of processor. Where
they could not be loaded nothing is compiled and the wheel is pure: ONNX Runtime computes there.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

# Another version is another compiler: what it makes has not been tested.
COMPILER = "ziglang==0.17.1"
FOLDER = "src/tts_provider/engines/csm/native"

FLAGS = (
    *("-O3", "-std=c11", "-Wall", "-Wextra", "-Werror"),
    *("-fno-math-errno", "-shared", "-fPIC", "-s"),
)
ELF_FLAGS = (
    "-Wl,-Bsymbolic",  # calls its own functions, whatever else in the process has their names
    "-Wl,-z,defs",  # a function that is nowhere is found missing here, not when it is loaded
)


class Platform(NamedTuple):
    """What a wheel's tag names, and what is compiled for it."""

    target: str
    """zig's name, with the oldest glibc or macOS that the libraries take; ONNX Runtime's own wheels
    take no older one."""
    suffix: str
    libraries: dict[str, str]
    """kernels-NAME, and zig's name for the processors that can run it."""


ARM = {
    "neon": "generic+v8_2a+dotprod+fullfp16",
    "i8mm": "generic+v8_2a+dotprod+fullfp16+i8mm",
}
PLATFORMS = {
    "manylinux_2_28_x86_64": Platform(
        "x86_64-linux-gnu.2.28",
        ".so",
        {
            "avx2": "x86_64_v3",
            "avxvnni": "x86_64_v3+avxvnni",
            "avx512vnni": "x86_64_v4+avx512vnni",
        },
    ),
    "manylinux_2_28_aarch64": Platform("aarch64-linux-gnu.2.28", ".so", ARM),
    "macosx_14_0_arm64": Platform("aarch64-macos.14.0", ".dylib", ARM),
}
# Set to anything, nothing is compiled anywhere.
WITHOUT = "WITHOUT_TTS_KERNELS"

DIGEST_BYTES = hashlib.sha256().digest_size


def digest_inputs(root: Path) -> bytes:
    """Of the names and contents of all that a library is made from."""
    inputs = [*Path(root, FOLDER).glob("*.[ch]"), Path(root, "pyproject.toml"), Path(__file__)]
    total = hashlib.sha256()
    for path in sorted(inputs, key=lambda path: path.name):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.digest()


def seal(compiled: bytes, inputs: bytes) -> bytes:
    """A library with two digests after it, where no loader looks: of its inputs, and of all before.

    They are in the file itself, so that it is replaced together with them. native/library.py checks
    the last one before it loads the library.
    """
    return compiled + inputs + hashlib.sha256(compiled + inputs).digest()


def is_made_from(library: Path, inputs: bytes) -> bool:
    """Whether it is whole, and was compiled from these."""
    try:
        data = library.read_bytes()
    except OSError:
        return False
    return data == seal(data[: -2 * DIGEST_BYTES], inputs)


def wanted_platform() -> str | None:
    """The tag of the wheel that has kernels; None where it has none."""
    if os.environ.get(WITHOUT):
        return None
    tags = {tag.platform for tag in sys_tags()}
    return next((platform for platform in PLATFORMS if platform in tags), None)


class KernelsHook(BuildHookInterface[BuilderConfig]):
    def dependencies(self) -> list[str]:
        """What pip fetches for the build, as `get_requires_for_build_wheel` tells it: nothing where
        nothing is to be compiled."""
        return [COMPILER] if self._outdated() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        platform = wanted_platform()
        if platform is None:
            return
        for library in self._outdated():
            self._compile(library, PLATFORMS[platform])
        build_data["artifacts"] += [f"/{FOLDER}/{library.name}" for library in self._libraries()]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"

    def _libraries(self) -> list[Path]:
        wanted = wanted_platform()
        if wanted is None:
            return []
        platform = PLATFORMS[wanted]
        return [
            Path(self.root, FOLDER, f"kernels-{name}{platform.suffix}")
            for name in platform.libraries
        ]

    def _outdated(self) -> list[Path]:
        inputs = digest_inputs(Path(self.root))
        return [library for library in self._libraries() if not is_made_from(library, inputs)]

    def _compile(self, library: Path, platform: Platform) -> None:
        if importlib.util.find_spec("ziglang") is None:
            self.app.abort(
                f"{library.name} needs a compiler: pip install {COMPILER}, build without "
                f"--no-build-isolation, or set {WITHOUT}=1"
            )
        # Replaced whole: a process may have the old one mapped, another may compile it as well.
        aside = library.with_name(f".{os.getpid()}-{library.name}")
        try:
            processor = platform.libraries[library.stem.removeprefix("kernels-")]
            compiled = compile_kernels(aside, processor, platform)
            if compiled.returncode:
                self.app.abort(
                    f"{library.name} did not compile: mend what zig says, or set {WITHOUT}=1 and "
                    f"ONNX Runtime will do\n\n{compiled.stdout}"
                )
            aside.write_bytes(seal(aside.read_bytes(), digest_inputs(Path(self.root))))
            aside.replace(library)
        except OSError as error:
            self.app.abort(
                f"{library.name} cannot be made ({error}): make {library.parent} and the folder of "
                f"temporary files writable, or set {WITHOUT}=1 and ONNX Runtime will do"
            )
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)


def compile_kernels(
    output: Path, processor: str, platform: Platform
) -> subprocess.CompletedProcess[str]:
    """All C files beside `output` → a shared library."""
    # Relative names, so that nothing in the library tells where it was made.
    sources = sorted(path.name for path in output.parent.glob("*.c"))
    flags = (*FLAGS, *(ELF_FLAGS if platform.suffix == ".so" else ()))
    with tempfile.TemporaryDirectory() as cache:  # HOME may be missing, or not writable
        return subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc", *flags, "-target", platform.target),
                *(f"-mcpu={processor}", *sources, "-o", output.name),
            ],
            cwd=output.parent,
            env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
