"""How many instructions CSM's kernels take for a product, counted under QEMU: processors that are
not here are compared with one that is, without a claim about their speed.

    python benchmarks/instructions.py     a minute; needs qemu-user and ziglang

The C of the package is compiled as the package compiles it. QEMU executes one instruction after the
other and writes each down; one tile of 16 outputs and 1024 inputs more is that many lines more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from hatch_build import ARM, FLAGS, FOLDER

INPUTS, LANES = 1024, 16
STORED = ((4, 32), (4, 64), (4, 128), (8, 64), (8, 128))
ROWS = (1, 2, 4)
PROGRAM = """
#include <stdlib.h>
#include "linear.h"

int main(int count, char **arguments) {
    (void)count;
    const int bits = atoi(arguments[1]), block = atoi(arguments[2]), rows = atoi(arguments[3]);
    Linear layer = {0, 4 * LANES, 1024, bits, block};
    layer.tiles = calloc(1, tiles_bytes(layer) + 8192);
    const int blocks = layer.inputs / block;
    Rounded in = {calloc(rows, layer.inputs), calloc(rows * blocks, 4), calloc(rows * blocks, 4)};
    Floats *out = aligned_alloc(sizeof *out, rows * 4 * sizeof *out);
    multiply_tiles(layer, 0, atoi(arguments[4]), in, rows, out, 4);
}
"""
BUILDS = {
    "neon": ("aarch64", ARM["neon"]),
    "i8mm": ("aarch64", ARM["i8mm"]),
    "avx2": ("x86_64", "x86_64_v3"),  # QEMU 7.2 knows no later one
}


def compile_for(processor: str, features: str, program: Path) -> None:
    source = program.with_suffix(".c")
    source.write_text(PROGRAM)
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-s")]
    native = ROOT / FOLDER
    subprocess.run(
        [
            *(sys.executable, "-m", "ziglang", "cc", *flags, f"-I{native}", "-static"),
            *("-target", f"{processor}-linux-musl", f"-mcpu={features}"),
            *(str(native / "linear.c"), str(source), "-o", str(program)),
        ],
        check=True,
    )


def count(emulator: str, program: Path, *numbers: int) -> int:
    """Instructions of a whole run."""
    command = [emulator, "-cpu", "max", "-singlestep", "-d", "exec,nochain"]
    with subprocess.Popen(
        [*command, str(program), *map(str, numbers)],
        stderr=subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("QEMU_")},
    ) as run:
        assert run.stderr is not None
        lines = sum(line.startswith(b"Trace ") for line in run.stderr)
    assert run.returncode == 0, run.returncode
    return lines


def main() -> None:
    for processor, _ in BUILDS.values():
        if shutil.which(f"qemu-{processor}") is None:
            sys.exit(
                f"qemu-{processor} is not installed; on Debian and Ubuntu: apt install qemu-user"
            )
    print(f"instructions for {4 * LANES} weights and each row; rows at a time:", *ROWS)
    with tempfile.TemporaryDirectory() as folder:
        for name, (processor, features) in BUILDS.items():
            program = Path(folder, name)
            compile_for(processor, features, program)
            for bits, block in STORED:
                found = []
                for rows in ROWS:
                    one, two = (
                        count(f"qemu-{processor}", program, bits, block, rows, tiles)
                        for tiles in (1, 2)
                    )
                    found.append((two - one) * 4 / INPUTS / rows)
                print(
                    f"{name:5} {bits}/{block:<4}", *(f"{each:6.1f}" for each in found), flush=True
                )


if __name__ == "__main__":
    main()
