"""hatch_build.py: what is compiled into a wheel, and what a build says that cannot compile."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import hatchling.build
import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder
from packaging.tags import Tag, sys_tags

from servers import REPOSITORY
from tts_provider.engines.csm import native
from tts_provider.engines.csm.native import library

NATIVE = "tts_provider/engines/csm/native"
LIBRARIES = {"kernels-avx2.so", "kernels-avxvnni.so", "kernels-avx512vnni.so"}

here_they_run = pytest.mark.skipif(
    all(tag.platform != "manylinux_2_28_x86_64" for tag in sys_tags()),
    reason="kernels are for Linux on x86-64 with glibc 2.28",
)
needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="needs ziglang, of requirements-test.txt"
)


@pytest.fixture
def project(tmp_path) -> Path:
    """This one, with nothing of the package but the kernels' sources."""
    root = tmp_path / "project"
    package = root / "src" / "tts_provider"
    shutil.copytree(
        REPOSITORY / "src" / NATIVE,
        root / "src" / NATIVE,
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    shutil.copy(REPOSITORY / "src" / "tts_provider" / "__init__.py", package)
    for name in ("hatch_build.py", "pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(REPOSITORY / name, root)
    return root


def build(root: Path) -> Path:
    (wheel,) = WheelBuilder(str(root)).build(directory=str(root / "dist"), versions=["standard"])
    return Path(wheel)


def names(suffix: str, members: Iterable[str]) -> set[str]:
    return {Path(member).name for member in members if member.endswith(suffix)}


def rewrite(folder: Path, **sources: str) -> None:
    for path in folder.glob("*.[ch]"):
        path.unlink()
    for name, text in sources.items():
        (folder / name.replace("_", ".")).write_text(text)


@here_they_run
def test_what_is_installed_here_has_them():
    """`make test` has had them compiled, as any installation has."""
    for name in LIBRARIES:
        library._load(Path(native.__file__).with_name(name))


@here_they_run
@needs_zig
@pytest.mark.slow("10 s of a compiler: the installed ones are loaded and run by every other test")
def test_a_wheel_has_the_libraries_and_no_sources(project, tmp_path, monkeypatch):
    """Without HOME, where compilers like to keep things."""
    monkeypatch.delenv("HOME", raising=False)
    wheel = build(project)
    assert wheel.name == "tts_provider-0.1.0-py3-none-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert names(".so", archive.namelist()) == LIBRARIES
        assert names(".c", archive.namelist()) == names(".h", archive.namelist()) == set()
        assert b"Root-Is-Purelib: false" in archive.read("tts_provider-0.1.0.dist-info/WHEEL")
        archive.extractall(tmp_path)
    for name in LIBRARIES:
        path = tmp_path / NATIVE / name
        library._load(path)  # with the digest that is asked for
        assert path.stat().st_size < 200_000
        assert str(tmp_path).encode() not in path.read_bytes()


@here_they_run
@needs_zig
@pytest.mark.slow("10 s of a compiler: an edit of a kernel leaves alone what runs")
def test_an_edit_is_compiled_and_leaves_alone_what_runs(project):
    folder = project / "src" / NATIVE
    built = folder / "kernels-avx2.so"
    shutil.copy(Path(native.__file__).with_name(built.name), built)
    os.utime(built, (1, 1))
    older = built.open("rb")
    rewrite(
        folder,
        one_c="int ask(void);\nint answer(void);\nint answer(void) { return ask(); }\n",
        two_c='#include "two.h"\nint ask(void);\nint ask(void) { return ASKED; }\n',
        two_h="#define ASKED 42\n",
    )
    build(project)
    assert ctypes.CDLL(str(built)).answer() == 42
    compiled = built.stat()
    with older:
        assert older.read() == Path(native.__file__).with_name(built.name).read_bytes()
        assert os.fstat(older.fileno()).st_ino != compiled.st_ino
    assert {path.name for path in folder.iterdir() if "kernels-" in path.name} == LIBRARIES
    build(project)
    assert built.stat().st_ino == compiled.st_ino, "nothing was edited"


@here_they_run
@needs_zig
@pytest.mark.slow("10 s of a compiler: what does not compile ends the build with a sentence")
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("int answer(void);\nint answer(void) { return 4", "kernels.c:2:28: error: expected ';'"),
        ("int ask(void);\nint answer(void);\nint answer(void) { return ask(); }", "symbol: ask"),
    ],
)
def test_what_does_not_compile_ends_the_build(project, capsys, source, complaint):
    rewrite(project / "src" / NATIVE, kernels_c=source)
    with pytest.raises(SystemExit) as ended:
        build(project)
    assert ended.value.code == 1
    sentence, _, output = capsys.readouterr().err.partition("\n\n")
    assert sentence == (
        "kernels-avx2.so did not compile: mend what zig says, or set "
        "WITHOUT_TTS_KERNELS=1 and ONNX Runtime will do"
    )
    assert complaint in output
    assert not list(project.rglob("*.so"))


def load_hook(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "hatch_build_of_the_test", root / "hatch_build.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def compiled(project, monkeypatch) -> list[Path]:
    """The project as if it had been compiled already, and no compiler; returns what it was made
    from."""
    monkeypatch.setitem(sys.modules, "ziglang", None)
    folder = project / "src" / NATIVE
    rewrite(folder, kernels_c="", kernels_h="")
    hook = load_hook(project)
    for name in LIBRARIES:
        (folder / name).write_bytes(hook.seal(b"a library", hook.digest_inputs(project)))
    return [*folder.glob("*.[ch]"), project / "hatch_build.py", project / "pyproject.toml"]


@here_they_run
def test_a_compiler_is_asked_for_where_it_is_needed(project, monkeypatch):
    """What pip fetches before it builds, and what is said there must be what is pinned."""
    hook = load_hook(project)
    constraints = (REPOSITORY / "constraints.txt").read_text()
    assert hook.COMPILER in constraints.splitlines()
    monkeypatch.chdir(project)
    assert hatchling.build.get_requires_for_build_wheel() == [hook.COMPILER]
    assert hook.COMPILER in hatchling.build.get_requires_for_build_editable()
    assert hatchling.build.get_requires_for_build_sdist() == []
    monkeypatch.setenv("WITHOUT_TTS_KERNELS", "1")
    assert hatchling.build.get_requires_for_build_wheel() == []
    assert hook.COMPILER not in hatchling.build.get_requires_for_build_editable()


@here_they_run
def test_what_is_compiled_needs_no_compiler(project, compiled, monkeypatch):
    monkeypatch.chdir(project)
    assert hatchling.build.get_requires_for_build_wheel() == []
    (project / "src" / NATIVE / "kernels-avx2.so").unlink()
    assert hatchling.build.get_requires_for_build_wheel() == [load_hook(project).COMPILER]


@here_they_run
def test_times_do_not_matter(project, compiled):
    """A checkout, a copy or an archive gives all files others."""
    for year, path in enumerate([*compiled, *project.rglob("*.so")]):
        os.utime(path, (year, year))
    build(project)


@here_they_run
@pytest.mark.parametrize(
    "edit",
    [
        *("kernels.h", "kernels.c", "hatch_build.py", "pyproject.toml"),
        *("another file", "a new name", "no digest", "cut short", "empty", "one bit"),
    ],
)
def test_a_build_without_zig_says_how_to_get_it(project, compiled, capsys, edit):
    """And what is edited or damaged is compiled anew, though its time is that of before."""
    build(project)
    folder = project / "src" / NATIVE
    built = folder / "kernels-avx2.so"
    data = built.read_bytes()
    damaged = {
        "no digest": data[:-64],
        "cut short": data[:-1],
        "empty": b"",
        "one bit": bytes([data[0] ^ 1]) + data[1:],
    }
    if edit in damaged:
        built.write_bytes(damaged[edit])
    elif edit == "another file":
        (folder / "more.c").touch()
    elif edit == "a new name":
        (folder / "kernels.c").rename(folder / "kernel.c")
    else:
        (path,) = (path for path in compiled if path.name == edit)
        time = path.stat().st_mtime_ns
        path.write_text(path.read_text() + "\n")
        os.utime(path, ns=(time, time))
    with pytest.raises(SystemExit) as ended:
        build(project)
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "kernels-avx2.so needs a compiler: pip install ziglang==0.17.1, build without "
        "--no-build-isolation, or set WITHOUT_TTS_KERNELS=1\n"
    )


@here_they_run
@needs_zig
def test_a_folder_that_cannot_be_written_ends_the_build(project, capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(project / "nowhere"))
    with pytest.raises(SystemExit) as ended:
        build(project)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "kernels-avx2.so cannot be made ([Errno 2]" in said
    assert "WITHOUT_TTS_KERNELS=1 and ONNX Runtime will do" in said


def test_who_wants_none_has_a_pure_wheel(project, monkeypatch):
    monkeypatch.setenv("WITHOUT_TTS_KERNELS", "1")
    assert build(project).name == "tts_provider-0.1.0-py3-none-any.whl"
    assert not list(project.rglob("*.so"))


@needs_zig
@pytest.mark.slow("half a minute of a compiler: wheels for machines that this one is not")
@pytest.mark.parametrize(
    ("platform", "suffix"),
    [("manylinux_2_28_aarch64", ".so"), ("macosx_14_0_arm64", ".dylib")],
)
def test_wheels_for_arm_have_libraries_for_arm(project, monkeypatch, platform, suffix):
    monkeypatch.setattr("packaging.tags.sys_tags", lambda: iter([Tag("py3", "none", platform)]))
    wheel = build(project)
    assert wheel.name == f"tts_provider-0.1.0-py3-none-{platform}.whl"
    wanted = {f"kernels-neon{suffix}", f"kernels-i8mm{suffix}"}
    with zipfile.ZipFile(wheel) as archive:
        members = archive.namelist()
        assert names(".so", members) | names(".dylib", members) == wanted
        libraries = [archive.read(f"{NATIVE}/{name}") for name in wanted]
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("sys.platform", "linux" if suffix == ".so" else "darwin")
    for data in libraries:
        library._check(data)


@pytest.mark.parametrize(
    "platform",
    [
        "macosx_11_0_x86_64",
        "manylinux_2_17_x86_64",
        "musllinux_1_2_x86_64",
        "win_amd64",
    ],
)
def test_elsewhere_the_wheel_is_pure(project, monkeypatch, platform):
    monkeypatch.setattr("packaging.tags.sys_tags", lambda: iter([Tag("py3", "none", platform)]))
    (project / "src" / NATIVE / "kernels-avx2.so").write_bytes(b"of another machine")
    wheel = build(project)
    assert wheel.name == "tts_provider-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert f"{NATIVE}/__init__.py" in archive.namelist()
        assert names(".so", archive.namelist()) == set()


def test_the_sdist_has_what_it_takes_to_compile(tmp_path):
    (built,) = SdistBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(built) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    sources = {path.name for path in (REPOSITORY / "src" / NATIVE).glob("*.[ch]")}
    assert {"hatch_build.py", *(f"src/{NATIVE}/{name}" for name in sources)} <= members
    assert names(".so", members) == set()
