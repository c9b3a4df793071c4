from __future__ import annotations

import pytest

from rows import rows
from tts_provider.cli.main import _parser
from tts_provider.config import Limits, Settings, load_settings
from tts_provider.errors import StartupError


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    import os

    for name in list(os.environ):
        if name.startswith(("TTS_PROVIDER_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write_env(tmp_path, text: str | bytes):
    path = tmp_path / ".env"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_seeds_defaults():
    settings = load_settings({})
    assert (settings.host, settings.port) == ("0.0.0.0", 8765)
    assert (settings.mode, settings.model_path) == (None, None)


def test_flags_before_environment_before_file_before_default(monkeypatch, tmp_path):
    write_env(tmp_path, "TTS_PROVIDER_PORT=1\nTTS_PROVIDER_HOST=file\nTTS_PROVIDER_MAX_STREAMS=3\n")
    monkeypatch.setenv("TTS_PROVIDER_PORT", "2")
    monkeypatch.setenv("TTS_PROVIDER_HOST", "environment")
    settings = load_settings({"port": "4"})
    assert (settings.port, settings.host, settings.max_streams) == (4, "environment", 3)
    assert settings.max_queued_requests == Limits().max_queued_requests


def test_hugging_face_settings_of_the_file_reach_its_library(monkeypatch, tmp_path):
    write_env(tmp_path, "HF_TOKEN=hf_abc\r\nHF_HOME=D:/Dev/Models/huggingface\r\n")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_HOME", "")
    load_settings({}).export_hugging_face()
    import os

    assert os.environ["HF_TOKEN"] == "hf_abc"
    assert os.environ["HF_HOME"].replace("\\", "/") == "D:/Dev/Models/huggingface"


def test_lists_are_separated_by_commas(tmp_path):
    write_env(
        tmp_path, "TTS_PROVIDER_API_KEYS=one, two\nTTS_PROVIDER_ALLOW_ORIGINS=https://A.example\n"
    )
    settings = load_settings({})
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.allow_origins == ("https://a.example",)


@rows(
    ("flags", "parts"),
    [
        ({"port": "abc"}, ["--port", "'abc'", "integer"]),
        ({"port": "70000"}, ["--port", "'70000'", "65535"]),
        ({"mode": "reuse"}, ["--mode reuse", "--model-path"]),
        ({"mode": "steal"}, ["--mode", "'steal'", "'download' or 'reuse'"]),
        ({"allow_origins": ["example.org"]}, ["--allow-origin", "SCHEME://HOST"]),
        ({"voice_aliases": ["nova"]}, ["--voice-alias", "NAME=VOICE", "'nova'"]),
        (
            {"voice_aliases": ["chief=Narrator", "narrator=female"]},
            ["--voice-alias", "chief stands for Narrator", "an alias too (of female)"],
        ),
        ({"voice_aliases": ["anna=Anna"]}, ["--voice-alias", "an alias too", "the voice itself"]),
        ({"data_dir": "/dev/null/x"}, ["/dev/null/x", "--data-dir"]),
        ({"max_streams": "0"}, ["--max-streams", "'0'", "greater than or equal to 1"]),
    ],
)
def test_a_bad_flag_is_one_sentence(flags, parts):
    with pytest.raises(StartupError) as caught:
        load_settings(flags)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("TTS_PROVIDER_PORT=x\n", ["TTS_PROVIDER_PORT in .env", "'x'"]),
        (
            "TTS_PROVDER_PORT=1\n",
            ["TTS_PROVDER_PORT", "did you mean TTS_PROVIDER_PORT"],
        ),
        ("HF_TOKN=1\n", ["unknown setting HF_TOKN", "line 1", "did you mean HF_TOKEN"]),
        ("TTS_PROVIDER_COLOUR=1\n", ["unknown setting TTS_PROVIDER_COLOUR", "line 1"]),
        ("\n\nthis is not a setting\n", [".env line 3 is not KEY=VALUE"]),
        ("HF_TOKEN\n", [".env line 1 is not KEY=VALUE"]),
        ("HF_TOKEN='open\n", [".env line 1 is not KEY=VALUE"]),
        (b"HF_TOKEN=\xff\xfe\n", [".env", "not UTF-8"]),
    ],
)
def test_a_broken_env_file_is_one_sentence(tmp_path, text, parts):
    write_env(tmp_path, text)
    with pytest.raises(StartupError) as caught:
        load_settings({})
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_an_env_file_that_is_a_folder(tmp_path):
    (tmp_path / ".env").mkdir()
    with pytest.raises(StartupError, match="cannot read"):
        load_settings({})


def test_unknown_variables_are_refused(monkeypatch):
    monkeypatch.setenv("TTS_PROVIDER_MAX_STREAM", "1")
    with pytest.raises(StartupError, match="did you mean TTS_PROVIDER_MAX_STREAMS"):
        load_settings({})


@rows(
    ("key", "meant"),
    [
        ("TTS_PROVIDER_POTR", "TTS_PROVIDER_PORT"),
        ("TTS_PROVIDER_DATADIR", "TTS_PROVIDER_DATA_DIR"),
        ("TTS_PROVIDER_API_KEY", "TTS_PROVIDER_API_KEYS"),
        ("TTS_PROVIDER_MAX_TEXT_CHARS", "TTS_PROVIDER_MAX_TEXT_CHARACTERS"),
        ("TTS_PROVIDER_MAX_CONN", "TTS_PROVIDER_MAX_CONNECTIONS"),
        ("TTS_PROVIDER_IDLE_TIMEOUT", "TTS_PROVIDER_IDLE_TIMEOUT_S"),
        ("TTS_PROVIDER_HF_TOKEN", "HF_TOKEN"),
        # These look like a setting, and mean none.
        ("TTS_PROVIDER_LANG", None),
        ("TTS_PROVIDER_LOG_LEVEL", None),
        ("TTS_PROVIDER_HOSTNAME", None),
        ("TTS_PROVIDER_MAX_REQUESTS", None),
        ("TTS_PROVIDER_MODEL_FOLDER", None),
        ("TTS_PROVIDER_", None),
    ],
)
def test_a_close_name_is_meant_or_none(key, meant, monkeypatch):
    with monkeypatch.context() as here:
        here.setenv(key, "1")
        with pytest.raises(StartupError) as caught:
            load_settings({})
    expected = f"did you mean {meant}?" if meant else ".env.template lists the settings"
    assert expected in str(caught.value)


KUBERNETES = {
    "TTS_PROVIDER_PORT": "tcp://10.0.171.239:8765",
    "TTS_PROVIDER_PORT_8765_TCP": "tcp://10.0.171.239:8765",
    "TTS_PROVIDER_PORT_8765_TCP_ADDR": "10.0.171.239",
    "TTS_PROVIDER_PORT_8765_TCP_PORT": "8765",
    "TTS_PROVIDER_PORT_8765_TCP_PROTO": "tcp",
    "TTS_PROVIDER_SERVICE_HOST": "10.0.171.239",
    "TTS_PROVIDER_SERVICE_PORT": "8765",
    "TTS_PROVIDER_SERVICE_PORT_HTTP": "8765",
    "TTS_PROVIDER_GPU_SERVICE_HOST": "10.0.171.240",
    "TTS_PROVIDER_GPU_PORT": "tcp://10.0.171.240:8765",
}


def test_the_variables_of_a_kubernetes_service_of_our_name_are_none_of_ours(monkeypatch):
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    settings = load_settings({})
    assert settings.port == 8765
    (sentence,) = settings.ignored
    assert all(name in sentence for name in KUBERNETES)
    monkeypatch.setenv("TTS_PROVIDER_SERVICE", "1")
    with pytest.raises(StartupError, match="unknown setting TTS_PROVIDER_SERVICE"):
        load_settings({})


def test_an_env_file_that_other_programs_share(monkeypatch, tmp_path):
    write_env(tmp_path, "OPENAI_API_KEY=sk\nPATH=1\nHF_HUB_CACHE=x\nTTS_PROVIDER_PORT=9\n")
    settings = load_settings({})
    assert settings.port == 9
    (sentence,) = settings.ignored
    assert sentence.startswith("OPENAI_API_KEY, PATH, HF_HUB_CACHE in .env: ")
    assert "sk" not in sentence


def test_nothing_is_ignored_where_there_is_nothing_else():
    assert load_settings({}).ignored == ()


@rows("host", ["http://x", "x:1", "*.x.org", "user@x", "a/b"])
def test_a_host_is_a_name(host):
    with pytest.raises(StartupError, match="--allow-host"):
        load_settings({"allow_hosts": [host]})


def test_secrets_are_never_shown(tmp_path):
    write_env(tmp_path, "TTS_PROVIDER_API_KEYS=sec ret\nHF_TOKEN=hf_abc\n")
    with pytest.raises(StartupError) as caught:
        load_settings({})
    assert "sec ret" not in str(caught.value)
    write_env(tmp_path, "TTS_PROVIDER_API_KEYS=hidden\nHF_TOKEN=hf_abc\n")
    assert not {"hidden", "hf_abc"} & set(repr(load_settings({})).split("'"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    write_env(tmp_path, b"\xef\xbb\xbfTTS_PROVIDER_PORT=99\n")
    assert load_settings({}).port == 99


def test_every_flag_of_serve_is_a_setting():
    arguments = _parser().parse_args(["serve"])
    assert {name for name in vars(arguments) if name != "command"} <= set(Settings.model_fields)


def test_the_template_names_every_setting_and_loads(tmp_path):
    from servers import REPOSITORY

    template = (REPOSITORY / ".env.template").read_text("utf-8")
    for name in Settings.model_fields:
        variable = name.upper() if name.startswith("hf_") else f"TTS_PROVIDER_{name.upper()}"
        assert f"{variable}=" in template, variable
    write_env(tmp_path, template)
    assert load_settings({}) == Settings(_env_file=None)
