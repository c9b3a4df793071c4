"""The OpenAPI document against the live server: schemathesis asks what the document allows, and
what it does not, and compares the answers with what it promises."""

from __future__ import annotations

import subprocess
import sys

import pytest

from servers import server_process

SLOW = pytest.mark.slow("10 s each: more values of each field, and a server without keys")


@pytest.mark.parametrize(
    ("key", "examples"),
    [("k", 4), pytest.param("k", 20, marks=SLOW), pytest.param(None, 20, marks=SLOW)],
)
def test_the_document_is_true(tmp_path, key, examples):
    flags = ["--engine", "espeak"] + (["--api-key", key] if key else [])
    with server_process(tmp_path, *flags) as server:
        arguments = [f"http://127.0.0.1:{server.port}/openapi.json", "--no-color"]
        arguments += [
            "--phases",
            "examples,coverage,fuzzing,stateful",
            "--max-examples",
            str(examples),
        ]
        arguments += ["--generation-deterministic", "--continue-on-failure", "--warnings", "off"]
        # A voice that is not here and a text without words fit the schema and are refused.
        arguments += ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
        if key:
            arguments += ["--header", f"Authorization: Bearer {key}"]
        reply = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert reply.returncode == 0, reply.stdout + reply.stderr
