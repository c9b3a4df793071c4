"""The command line: `tts-provider serve | replica | say | book | voices | keys | doctor …`.

Heavy modules are imported by the command that needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tts_provider.audio.encode.format import COMMON_FORMATS
from tts_provider.errors import StartupError, TTSError, meant_name
from tts_provider.server.logs import printable

if TYPE_CHECKING:
    from tts_provider.config import Settings

_EXAMPLES = """\
examples:
  tts-provider serve                            listen on ws://0.0.0.0:8765
  tts-provider say "Hello there"                play it
  tts-provider say "Hello there" -o hello.mp3   write it
  tts-provider doctor                           show what to do next

`tts-provider COMMAND --help` describes a command.
Exit codes: 0 success, 1 failure, 2 wrong usage or settings.
"""

_SERVE_EPILOG = """\
examples:
  tts-provider serve --port 8080 --api-key SECRET
  tts-provider serve --mode reuse --model-path ~/models/csm-1b --precision int4

Every flag and every limit is also a variable, TTS_PROVIDER_<NAME>, in the
environment or in .env; .env.template lists them, and HF_TOKEN and HF_HOME.
Flags override the environment, and the environment overrides .env.
"""

_REPLICA_EPILOG = """\
examples:
  tts-provider replica --port 8766 --engine-key SECRET
  tts-provider serve --engine remote --engine-key SECRET \\
      --engine-url http://gpu-1:8766 --engine-url http://gpu-2:8766

The second command runs the gateway, on a machine that needs no GPU. Replicas
and gateways must have the same release and share a data folder. docs/deploy.md
"""

_SAY_EPILOG = """\
examples:
  tts-provider say "Hello there" --speaker 1
  tts-provider say "Hello there" -o hello.mp3
  tts-provider say - -o letter.wav --captions letter.srt < letter.txt
  tts-provider say --cast cast.toml script.txt -o scene.mp3
  llm "Tell me a story" | tts-provider say --stream -

With --stream and - as TEXT, each sentence is spoken as soon as it is complete,
if the speech is played or written to standard output.
"""

_BOOK_EPILOG = """\
examples:
  tts-provider book novel.epub -o novel.m4b
  tts-provider book novel.epub --dry-run        chapters, words, expected length
  tts-provider book notes.docx -o notes/        a file for each chapter
  tts-provider book novel.txt -o novel.epub     sentences are marked as they are read
  tts-provider book novel.epub -o try.mp3 --chapters 3-5 --preview 2m

Reads EPUB, DOCX, PDF, HTML, Markdown, text and subtitles. Writes .m4b, .mp3,
.opus, .flac, .wav, .epub or a folder. Finished speech is kept in FILE.partial:
after an interruption, run the same command again to continue. docs/books.md
"""

_WORDS_EPILOG = """\
examples:
  tts-provider words "It costs $3.50, says Dr. Jones."
  tts-provider words - < README.md
  tts-provider words - --each-line < prices.txt
"""

_VOICES_EPILOG = """\
examples:
  tts-provider voices check anna.m4a
  tts-provider voices add Anna --audio anna.m4a \\
      --transcript "What she says, word for word." --consent
  tts-provider voices add Ben --adapter lora_model --consent
  tts-provider voices list
"""

_KEYS_EPILOG = """\
examples:
  tts-provider keys add anna
  tts-provider keys add shop --scope speak --streams 4 \\
      --requests-per-minute 60 --characters-per-day 100000 --expires 90d
  tts-provider keys add prometheus --scope metrics
  tts-provider keys revoke anna
  tts-provider keys usage --since 2026-12-01 --csv

The default scopes are speak, voices and jobs. docs/security.md explains them.
"""

_DETECT_EPILOG = """\
examples:
  tts-provider detect voicemail.mp3
  tts-provider detect --json *.wav
"""

_PRUNE_EPILOG = """\
examples:
  tts-provider prune                            keep those of the model in .env
  tts-provider prune --model-path lora_model    keep those of this adapter
  tts-provider prune --all                      remove all of them
"""

_COMPLETION_EPILOG = """\
examples:
  eval "$(tts-provider completion bash)"        in ~/.bashrc
  eval "$(tts-provider completion zsh)"         in ~/.zshrc, after compinit
  tts-provider completion fish | source         in ~/.config/fish/config.fish
"""

_SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "PATH", "FOLDER")


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
        sys.stdout.flush()  # here whoever reads it may be gone, and not when the interpreter ends
    except StartupError as error:
        print(f"tts-provider: {printable(str(error))}", file=sys.stderr)
        return 2
    except TTSError as error:
        print(f"tts-provider: {printable(str(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell says of a program that SIGPIPE ended
    except KeyboardInterrupt:
        return 130
    return exit_code


def serve(arguments: Sequence[str] | None = None) -> int:
    """`python run_server.py`: the serve command under the name of the script in a clone."""
    return main(["serve", *(sys.argv[1:] if arguments is None else arguments)])


class _Parser(argparse.ArgumentParser):
    """Flags of settings are added when they are asked for: what they are is in `config.py`, and
    pydantic takes longer to import than the rest of `--help`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._add_rest: Callable[[], None] | None = None
        self._has_settings = False

    def add_settings(self, about: Mapping[str, str | None] | None = None) -> None:
        """As `add_flags`, later."""

        def add_rest() -> None:
            from tts_provider.cli.flags import add_flags

            add_flags(self, about)

        self._add_rest = add_rest
        self._has_settings = True

    def complete(self) -> None:
        if self._add_rest is not None:
            self._add_rest()
            self._add_rest = None

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        self.complete()
        namespace, rest = super().parse_known_args(*arguments, **options)
        for argument in rest:
            if argument.startswith("--"):
                self._refuse(argument.partition("=")[0])
        return namespace, rest

    def _refuse(self, flag: str) -> None:
        from tts_provider.config import PREFIX, Settings

        setting = flag.removeprefix("--").replace("-", "_").lower()
        meant = meant_name(flag, self._option_string_actions)
        if self._has_settings and setting in Settings.model_fields:
            hint = f"{PREFIX}{setting.upper()} in the environment or .env sets it"
        else:
            hint = f"did you mean {meant}?" if meant else f"see {self.prog} --help"
        self.error(f"there is no {flag} here; {hint}")


def _parser() -> _Parser:
    parser = _Parser(
        prog="tts-provider",
        description="Self-hosted text-to-speech over WebSocket and HTTP.",
        epilog=_EXAMPLES,
        formatter_class=_Plain,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, about: str, epilog: str | None = None) -> _Parser:
        return commands.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog=epilog,
            formatter_class=_Plain,
        )

    _add_serve(add("serve", "run the server", _SERVE_EPILOG))
    _add_replica(add("replica", "run an engine for gateways on other machines", _REPLICA_EPILOG))
    _add_say(add("say", "speak a text to a file or a player", _SAY_EPILOG))
    _add_book(add("book", "turn a file into an audiobook", _BOOK_EPILOG))
    _add_words(add("words", "print a text as it will be spoken", _WORDS_EPILOG))
    _add_voices(add("voices", "list, add, remove and check voices of your own", _VOICES_EPILOG))
    _add_keys(add("keys", "create, list and revoke API keys, and show their usage", _KEYS_EPILOG))
    _add_detect(add("detect", "look for the watermark in recordings", _DETECT_EPILOG))
    _add_prune(add("prune", "remove prepared weights that are not used", _PRUNE_EPILOG))
    doctor = add("doctor", "show what is installed, which engine would speak, and what to do next")
    doctor.set_defaults(command=_doctor)
    completion = add("completion", "print a script for shell completion", _COMPLETION_EPILOG)
    completion.set_defaults(command=_completion)
    completion.add_argument("shell", choices=_SHELLS, help="your shell")
    return parser


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Examples stay as they are written."""

    def __init__(self, prog: str, **options: Any) -> None:
        # Flags and what they mean side by side, in 80 columns.
        super().__init__(prog, max_help_position=28, **options)
        self._action_max_length = 16  # argparse forgets that commands are indented twice


class _Version(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help="show the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from tts_provider import __version__

        print(f"tts-provider {__version__}")
        parser.exit()


def _add_serve(parser: _Parser) -> None:
    parser.set_defaults(command=_serve)
    parser.add_settings()


def _add_replica(parser: _Parser) -> None:
    parser.set_defaults(command=_replica)
    parser.add_settings(
        {
            **dict.fromkeys(("host", "port")),
            **dict.fromkeys(("engine", "mode", "model", "model_path", "adapter", "device")),
            **dict.fromkeys(("precision", "kokoro_path", "kokoro_precision")),
            **dict.fromkeys(("unload_after_s", "data_dir")),
            "engine_key": "only gateways with this key, or with one of KEY,KEY, may connect",
            "api_keys": "clients with this key may read /metrics; repeatable",
            "max_streams": "passages spoken at once",
            "log_format": None,
        }
    )


def _add_say(parser: _Parser) -> None:
    parser.set_defaults(command=_say)
    add = parser.add_argument
    add("text", metavar="TEXT", help="the text, or an .srt or .vtt file; - for standard input")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "-o", "--output", metavar="FILE", help="write to this file; - for standard output"
    )
    output.add_argument(
        "--play", action="store_const", const=True, help="play the speech (the default)"
    )
    add("--stream", action="store_const", const=True, help="write or play it as it is made")
    add("--voice", metavar="ID", help="id of the voice")
    add(
        "--speaker",
        type=int,
        metavar="N",
        help="0 for the male voice, 1 for the female (default: 0)",
    )
    add(
        "--cast", metavar="FILE", help="TOML file with a voice for each name; TEXT is a script file"
    )
    add(
        "--pause-ms", type=int, metavar="MS", help="silence between a script's turns (default: 300)"
    )
    add(
        "--format",
        dest="audio_format",
        metavar="NAME",
        choices=COMMON_FORMATS,
        help=f"{', '.join(COMMON_FORMATS[:-1])} or {COMMON_FORMATS[-1]} "
        "(default: from the file's name)",
    )
    add("--captions", metavar="FILE", help="also write captions, as .srt or .vtt")
    add(
        "--caption-words",
        action="store_const",
        const=True,
        help="captions for karaoke: .vtt has each word's time, .srt a word at a time",
    )
    add(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="sample rate (default: 24000; 8000 for .ulaw and .alaw)",
    )
    add("--seed", type=int, metavar="N", help="the same seed gives the same audio")
    add("--speed", type=float, metavar="N", help="speed, 0.25 to 4 (default: 1)")
    add("--ssml", action="store_const", const=True, help="the text is SSML")
    add("--lexicon", metavar="FILE", help="pronunciation dictionary; docs/text.md")
    _add_server(parser)


def _add_server(parser: _Parser) -> None:
    add = parser.add_argument
    add(
        "--url",
        help="the server (default: TTS_PROVIDER_URL, else this machine at TTS_PROVIDER_PORT, "
        "or an embedded one if none runs there)",
    )
    add("--api-key", metavar="KEY", help="key for the server")
    add("--ca", metavar="FILE", help="certificate authority of the server, in PEM")


def _add_book(parser: _Parser) -> None:
    parser.set_defaults(command=_book)
    add = parser.add_argument
    add("file", metavar="FILE", help="the book; - for standard input")
    add(
        "-o",
        "--output",
        metavar="FILE",
        action="append",
        help="file to make, in the format of its name; a folder ends with /; repeatable",
    )
    add("--dry-run", action="store_const", const=True, help="print what would be spoken")
    add("--chapters", metavar="N-N", help="only these: 3, 3-5, 7-, separated by commas")
    add("--preview", metavar="TIME", help="only the beginning: 90s, 2m")
    add("--voice", metavar="ID", help="id of the voice")
    add(
        "--speaker",
        type=int,
        metavar="N",
        help="0 for the male voice, 1 for the female (default: 0)",
    )
    add("--speed", type=float, metavar="N", help="speed, 0.25 to 4 (default: 1)")
    add("--seed", type=int, metavar="N", help="the same seed gives the same audio (default: 1)")
    add("--lexicon", metavar="FILE", help="pronunciation dictionary; docs/text.md")
    add("--title", metavar="TEXT", help="title (default: the file's)")
    add("--author", metavar="TEXT", help="author (default: the file's)")
    add(
        "--chapter-format",
        metavar="NAME",
        choices=("m4b", "mp3", "opus", "flac", "wav"),
        help="format in a folder: m4b, mp3, opus, flac or wav (default: mp3)",
    )
    add(
        "--restart",
        action="store_const",
        const=True,
        help="begin again, without what was made before",
    )
    add("--quiet", action="store_const", const=True, help="show no progress")
    add(
        "--json",
        dest="as_json",
        action="store_const",
        const=True,
        help="print a JSON object a line",
    )
    _add_server(parser)


def _add_words(parser: _Parser) -> None:
    from tts_provider.speech.structure.blocks import NOT_SPEECH

    parser.set_defaults(command=_words)
    add = parser.add_argument
    add("text", metavar="TEXT", help="the text, or an .srt or .vtt file; - for standard input")
    add(
        "--each-line",
        action="store_const",
        const=True,
        help="treat each line as a separate text, and print it as one line",
    )
    add("--language", metavar="TAG", help="language of the voice (default: en); docs/text.md")
    add("--ssml", action="store_const", const=True, help="the text is SSML")
    add(
        "--read-aloud",
        action="append",
        choices=NOT_SPEECH,
        metavar="WHAT",
        help=f"speak this too: {', '.join(NOT_SPEECH)}; repeatable",
    )
    add("--lexicon", metavar="FILE", help="the pronunciation dictionary")
    add("--voice", metavar="ID", help="use this voice's part of the dictionary too")


def _add_voices(parser: _Parser) -> None:
    parser.description = (
        "Voices of your own, in the data folder. A running server sees every change."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="list the voices")
    listing.set_defaults(command=_voices, action="list_voices")
    adding = commands.add_parser(
        "add", help="make a voice from a recording, an adapter or both, and print its id"
    )
    adding.set_defaults(command=_voices, action="add_voice")
    adding.add_argument("name", metavar="NAME", help="name of the voice")
    removing = commands.add_parser("remove", help="delete a voice and its recording")
    removing.set_defaults(command=_voices, action="remove_voice")
    removing.add_argument("voice_id", metavar="ID", help="id of the voice, as `list` shows it")
    checking = commands.add_parser("check", help="measure a recording without keeping it")
    checking.set_defaults(command=_voices, action="check_audio")
    checking.add_argument("audio", metavar="FILE", help="a recording, as for `add --audio`")
    checking.add_argument("--transcript", metavar="TEXT", help="what is said in it, word for word")
    add = adding.add_argument
    add("--audio", metavar="FILE", help="8 to 20 s of speech in any common format")
    add("--transcript", metavar="TEXT", help="what is said in it, word for word")
    add("--adapter", metavar="DIR", help="a LoRA adapter of CSM-1B, which is copied")
    add("--speaker", metavar="N", type=int, help="the number that the adapter was trained with")
    add(
        "--consent",
        action="store_const",
        const=True,
        help="confirm that the owner of the voice has agreed to its use",
    )
    data_dir = {"data_dir": "the server's data folder"}
    adding.add_settings({**data_dir, "model_path": "the model to compare an adapter with"})
    for command in (listing, removing, checking):
        command.add_settings(data_dir)


def _add_keys(parser: _Parser) -> None:
    parser.description = (
        "API keys with names, in the data folder. A running server sees every change\n"
        "within a second."
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add_command(name: str, about: str, action: str) -> _Parser:
        command: _Parser = commands.add_parser(name, help=about)
        command.set_defaults(command=_keys, action=action)
        return command

    adding = add_command("add", "make a key, and print it this once", "add_key")
    listing = add_command("list", "list the keys and what each may do", "list_keys")
    revoking = add_command("revoke", "revoke a key", "revoke_key")
    rotating = add_command(
        "rotate", "make another secret for the same name, and print it", "rotate_key"
    )
    using = add_command("usage", "show what each key used, by day, voice and engine", "print_usage")
    add = using.add_argument
    add("name", metavar="NAME", nargs="?", help="only this key")
    add("--since", metavar="DAY", help="from this day on: 2026-12-31")
    add("--until", metavar="DAY", help="until this day")
    output = using.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_const", const=True, help="as CSV")
    output.add_argument("--json", action="store_const", const=True, help="as JSON")
    for command in (adding, revoking, rotating):
        command.add_argument("name", metavar="NAME", help="name of the key")
    add = adding.add_argument
    add(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="speak, voices, jobs, metrics or admin, separated by commas "
        "(default: speak,voices,jobs)",
    )
    add("--expires", metavar="TIME", help="90d, 12h, or a time in UTC: 2026-12-31T18:00")
    add("--requests-per-minute", type=int, metavar="N", help="requests in any minute")
    add("--characters-per-day", type=int, metavar="N", help="characters to speak, by days of UTC")
    add("--streams", type=int, metavar="N", help="streams at once")
    add("--voices", metavar="ID,ID", help="the voices that it may speak with (default: all)")
    for command in (adding, listing, revoking, rotating, using):
        command.add_settings({"data_dir": "the server's data folder"})


def _add_prune(parser: _Parser) -> None:
    parser.set_defaults(command=_prune)
    add = parser.add_argument
    add("--all", dest="everything", action="store_const", const=True, help="remove all of them")
    kept = "keep the weights of this model, as for serve"
    parser.add_settings(
        {
            "data_dir": "the server's data folder",
            **dict.fromkeys(("model", "model_path", "adapter"), kept),
        }
    )


def _add_detect(parser: _Parser) -> None:
    parser.set_defaults(command=_detect)
    add = parser.add_argument
    add("files", metavar="FILE", nargs="+", help="audio in any common format, up to 5 minutes")
    add("--json", action="store_const", const=True, help="print a JSON object for each file")


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
    for sentence in settings.ignored:
        logging.getLogger(__name__).info(sentence)
    choice = choose_engine(settings)
    if choice.warning:
        logging.getLogger(__name__).warning(choice.warning)
    engine = build_engine(choice, settings, logging.getLogger(__name__).info)

    async def run() -> int:
        return await Server(engine, settings).run()

    exit_code = asyncio.run(run())
    _end_soon()
    return exit_code


def _end_soon() -> None:
    """Python looks through all it has for garbage when it ends: two thirds of the CPU time from a
    signal to the exit, which under load is a second."""
    import gc

    gc.freeze()


def _replica(flags: dict[str, Any]) -> int:
    import asyncio
    import logging

    from tts_provider.config import load_settings

    settings = load_settings(flags)
    settings.export_hugging_face()

    from tts_provider.cli.replica import run_replica
    from tts_provider.selection import build_engine, choose_engine
    from tts_provider.server.logs import configure_logging

    configure_logging(settings.log_format)
    choice = choose_engine(settings)
    if choice.warning:
        logging.getLogger(__name__).warning(choice.warning)
    engine = build_engine(choice, settings, logging.getLogger(__name__).info)
    exit_code = asyncio.run(run_replica(engine, settings))
    _end_soon()
    return exit_code


def _say(flags: dict[str, Any]) -> int:
    from tts_provider.cli.say import say, say_live

    text = flags.pop("text")
    flags.pop("play", None)
    if "cast" in flags:
        for name in ("voice", "speaker"):
            if name in flags:
                raise StartupError(f"with --cast its people have their voices: leave out --{name}")
        from tts_provider.cli.text import read_file

        say(read_file(text), **flags)
        return 0
    if "pause_ms" in flags:
        raise StartupError("--pause-ms is between the turns of a script, which --cast asks for")
    # A session speaks little ahead of real time, which is no way to fill a file.
    if text == "-" and flags.get("stream") and flags.get("output") in (None, "-"):
        del flags["stream"]
        if "captions" in flags or "caption_words" in flags:
            raise StartupError(
                "captions are of a text that is complete: leave out --stream, or write a file "
                "with -o FILE"
            )
        say_live(**flags)
    else:
        from tts_provider.cli.text import read_text

        say(read_text(text), **flags)
    return 0


def _book(flags: dict[str, Any]) -> int:
    from tts_provider.cli.book.book import make_book

    make_book(flags.pop("file"), **flags)
    return 0


def _words(flags: dict[str, Any]) -> int:
    from tts_provider.cli.text import print_words, read_text

    print_words(read_text(flags.pop("text")), **flags)
    return 0


def _voices(flags: dict[str, Any]) -> int:
    from tts_provider.config import load_settings

    action = flags.pop("action")
    of_settings = [name for name in ("data_dir", "model_path") if name in flags]
    settings = load_settings({name: flags.pop(name) for name in of_settings})

    from tts_provider.cli import voices

    getattr(voices, action)(settings, **flags)
    return 0


def _keys(flags: dict[str, Any]) -> int:
    from tts_provider.config import load_settings

    action = flags.pop("action")
    settings = load_settings({"data_dir": flags.pop("data_dir")} if "data_dir" in flags else {})

    from tts_provider.cli.keys import keys

    getattr(keys, action)(settings, **flags)
    return 0


def _prune(flags: dict[str, Any]) -> int:
    from tts_provider.config import load_settings

    everything = flags.pop("everything", False)
    settings = load_settings(flags)
    settings.export_hugging_face()

    from tts_provider.cli.prune import prune_weights

    prune_weights(settings, everything=everything)
    return 0


def _detect(flags: dict[str, Any]) -> int:
    from tts_provider.cli.detect import detect_files

    detect_files(**flags)
    return 0


def _doctor(_flags: dict[str, Any]) -> int:
    from tts_provider.cli.doctor import print_report

    print_report(_settings_without_flags())
    return 0


def _completion(flags: dict[str, Any]) -> int:
    import shtab

    parser = _parser()
    _complete_values(parser, shtab.FILE)
    print(shtab.complete(parser, shell=flags["shell"]))
    return 0


def _complete_values(parser: _Parser, files: object) -> None:
    """Say which arguments are files, and what the words between bars in a metavar are."""
    parser.complete()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_values(command, files)
        elif action.metavar in _FILES:
            action.complete = files  # type: ignore[attr-defined]
        elif isinstance(action.metavar, str) and "|" in action.metavar:
            action.choices = action.metavar.split("|")


def _settings_without_flags() -> Settings:
    from tts_provider.config import load_settings

    settings = load_settings({})
    settings.export_hugging_face()
    return settings
