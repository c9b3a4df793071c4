from __future__ import annotations

import argparse

from rows import rows
from tts_provider.cli.flags import GROUPS, add_flags
from tts_provider.config import Settings


def parser_of(about=None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_flags(parser, about)
    return parser


@rows(
    "typed",
    [
        "--port 1",
        "--api-key a --api-key b",
        "--wait-for-model",
        "--engine-url http://a",
        "--unload-after 9",
    ],
)
def test_what_is_typed_is_what_settings_take(typed):
    flags = {k: v for k, v in vars(parser_of().parse_args(typed.split())).items() if v is not None}
    settings = Settings(**flags, _env_file=None)
    assert settings.model_fields_set == set(flags)


def test_values_and_defaults_are_the_settings():
    (group,) = (g for g in parser_of()._action_groups if g.title == "speech")
    help_of = {action.dest: (action.metavar, action.help) for action in group._group_actions}
    assert help_of["device"] == ("auto|cpu|cuda", "where CSM-1B runs (default: auto)")
    assert help_of["mode"] == (
        "download|reuse",
        "download CSM-1B, or only reuse files that are here",
    )


def test_each_has_one_place():
    names = [name for flags in GROUPS.values() for name in flags]
    assert len(names) == len(set(names))


def test_a_command_has_those_that_it_takes_with_its_own_words():
    parser = parser_of({"data_dir": "the server's data folder", "port": None})
    text = " ".join(parser.format_help().split())
    assert "--data-dir PATH the server's data folder" in text
    assert "--port PORT port; 0 chooses a free one (default: 8765)" in text
    assert "--host" not in text
