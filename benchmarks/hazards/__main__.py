"""Every hazard that was found, measured: the table of docs/security.md.

    make hazards
    python benchmarks/hazards [NAME …]

NAME is a file's. Loopback only, and bounded; Linux, since it reads /proc. Exit code 1 where a
figure is worse than it has to be.
"""

from __future__ import annotations

import asyncio
import importlib
import sys

HAZARDS = (
    *("uploads", "hoards", "encoders", "floods", "texts", "replicas", "descriptors"),
    *("silences", "strangers", "stops", "soak"),
)


async def main(names: list[str]) -> int:
    failed = 0
    print("| what was done | figure | control | |\n| --- | --- | --- | --- |", flush=True)
    for name in names or HAZARDS:
        async for row in importlib.import_module(name).measure():
            failed += not row.is_met
            verdict = "" if row.is_met else "**too much**"
            print(f"| {row.what} | {row.figure} | {row.control} | {verdict} |", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
