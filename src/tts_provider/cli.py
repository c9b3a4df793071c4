"""The command line: `tts-provider serve | say | voices | doctor`.

Heavy modules are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tts_provider.errors import StartupError, TTSError

if TYPE_CHECKING:
    from tts_provider.config import Settings

_EPILOG = """\
Every setting is also TTS_PROVIDER_<NAME> in the environment or in a file .env; .env.template lists
them. HF_TOKEN and HF_HOME there are honoured too.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong settings or usage."""
    options = _parser().parse_args(arguments)
    command = options.command
    flags = {
        name: value
        for name, value in vars(options).items()
        if name != "command" and value is not None
    }
    try:
        exit_code: int = command(flags)
    except StartupError as error:
        print(f"tts-provider: {error}", file=sys.stderr)
        return 2
    except TTSError as error:
        print(f"tts-provider: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return exit_code


def serve(arguments: Sequence[str] | None = None) -> int:
    """`python run_server.py`: the serve command with the seed's own way to call it."""
    return main(["serve", *(sys.argv[1:] if arguments is None else arguments)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tts-provider", description="Self-hosted text-to-speech over WebSocket."
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands.add_parser("serve", help="run the server", epilog=_EPILOG))
    _add_say(commands.add_parser("say", help="speak a text through a running server"))
    _add_voices(
        commands.add_parser("voices", help="list, add, remove and check voices of your own")
    )
    doctor = commands.add_parser(
        "doctor", help="show what is installed, which engine would speak, and what to do next"
    )
    doctor.set_defaults(command=_doctor)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from tts_provider import __version__

        print(f"tts-provider {__version__}")
        parser.exit()


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_serve)
    add = parser.add_argument
    add("--host", help="address to listen on (default: 0.0.0.0)")
    add("--port", help="port to listen on; 0 takes a free one (default: 8765)")
    add("--mode", metavar="download|reuse", help="where CSM-1B comes from (default: download)")
    add("--model-path", metavar="PATH", help="folder of the downloaded model, for --mode reuse")
    add("--engine", metavar="auto|csm|espeak", help="what speaks (default: auto)")
    add("--device", metavar="auto|cpu|cuda", help="where CSM-1B runs (default: auto)")
    add(
        "--precision",
        metavar="auto|float32|bfloat16|int8|int4",
        help="how CSM-1B's weights are stored (default: auto)",
    )
    add(
        "--wait-for-model",
        action="store_const",
        const=True,
        help="open the port only when the model is loaded",
    )
    add("--data-dir", metavar="PATH", help="folder for voices and prepared weights")
    add(
        "--voice-alias",
        action="append",
        dest="voice_aliases",
        metavar="NAME=VOICE",
        help="another name for a voice; repeatable, OpenAI's voice names have one already",
    )
    add(
        "--api-key",
        action="append",
        dest="api_keys",
        metavar="KEY",
        help="let in only who has this key; repeatable",
    )
    add(
        "--allow-origin",
        action="append",
        dest="allow_origins",
        metavar="ORIGIN",
        help="let pages of this origin call the server; repeatable, * for all",
    )
    add("--max-streams", metavar="N", help="requests spoken at once (default: 32)")
    add("--log-format", metavar="text|json", help="how the log looks (default: text)")


def _add_say(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_say)
    add = parser.add_argument
    add("text", metavar="TEXT", help="what to say; - reads standard input")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-o", "--output", metavar="FILE", help="write a file; - is stdout")
    output.add_argument("--play", action="store_const", const=True, help="play it (the default)")
    add(
        "--url",
        help="the server (default: ws://localhost:8765, or an embedded one if none is there)",
    )
    add("--voice", metavar="ID", help="voice id")
    add("--speaker", type=int, metavar="N", help="0 male, 1 female (default: 0)")
    add(
        "--format",
        dest="audio_format",
        choices=("wav", "pcm", "mp3", "opus", "flac", "aac", "mulaw", "alaw"),
        help="of the file (default: by its name, else wav)",
    )
    add("--sample-rate", type=int, metavar="HZ", help="samples a second (default: 24000)")
    add("--seed", type=int, metavar="N", help="same seed, same audio")
    add("--stream", action="store_const", const=True, help="write or play while it is made")
    add("--api-key", metavar="KEY", help="the server's key")


def _add_voices(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Voices of your own, in the data folder. A server that runs sees what is changed here."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="show them")
    listing.set_defaults(command=_voices, action="list_voices")
    adding = commands.add_parser("add", help="make one from a recording; prints its id")
    adding.set_defaults(command=_voices, action="add_voice")
    adding.add_argument("name", metavar="NAME", help="what to call it")
    removing = commands.add_parser("remove", help="forget one and its recording")
    removing.set_defaults(command=_voices, action="remove_voice")
    removing.add_argument("voice_id", metavar="ID", help="its id, as `list` shows it")
    checking = commands.add_parser("check", help="measure a recording without keeping it")
    checking.set_defaults(command=_voices, action="check_audio")
    checking.add_argument("audio", metavar="FILE", help="a recording, as for `add --audio`")
    checking.add_argument("--transcript", metavar="TEXT", help="what is said in it, word for word")
    add = adding.add_argument
    add("--audio", metavar="FILE", required=True, help="8 to 20 s of speech in any common format")
    add("--transcript", metavar="TEXT", required=True, help="what is said in it, word for word")
    add(
        "--consent",
        action="store_const",
        const=True,
        help="the person whose voice it is has agreed to its use",
    )
    for command in (listing, adding, removing, checking):
        command.add_argument("--data-dir", metavar="PATH", help="the server's data folder")


def _serve(flags: dict[str, Any]) -> int:
    import asyncio
    import logging

    from tts_provider.config import load_settings

    settings = load_settings(flags)
    settings.export_hugging_face()

    from tts_provider.selection import build_engine, choose_engine
    from tts_provider.server.lifecycle import Server
    from tts_provider.server.logs import configure_logging

    configure_logging(settings.log_format)
    choice = choose_engine(settings)
    if choice.warning:
        logging.getLogger(__name__).warning(choice.warning)
    engine = build_engine(choice, settings, logging.getLogger(__name__).info)

    async def run() -> int:
        return await Server(engine, settings).run()

    return asyncio.run(run())


def _say(flags: dict[str, Any]) -> int:
    from tts_provider.say import say

    text = flags.pop("text")
    flags.pop("play", None)
    say(sys.stdin.read() if text == "-" else text, **flags)
    return 0


def _voices(flags: dict[str, Any]) -> int:
    from tts_provider.config import load_settings

    action = flags.pop("action")
    settings_flags = {"data_dir": flags.pop("data_dir")} if "data_dir" in flags else {}
    settings = load_settings(settings_flags)

    from tts_provider import voice_commands

    getattr(voice_commands, action)(settings, **flags)
    return 0


def _doctor(_flags: dict[str, Any]) -> int:
    from tts_provider.doctor import print_report

    print_report(_settings_without_flags())
    return 0


def _settings_without_flags() -> Settings:
    from tts_provider.config import load_settings

    settings = load_settings({})
    settings.export_hugging_face()
    return settings
