from __future__ import annotations

import io

import pytest

from tts_provider.cli.main import main


def words(capsys, *arguments: str, stdin: str | None = None, monkeypatch=None) -> list[str]:
    if stdin is not None:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    assert main(["words", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_one_segment_a_line(capsys):
    assert words(capsys, "**Dr.** Who paid $5. [Really](x)!") == [
        "Doctor Who paid five dollars.",
        "Really!",
    ]


def test_each_line_is_a_text_of_its_own(capsys, monkeypatch):
    text = "1 km. 2 km.\n\n# Title\n***\n```\nlast"
    spoken = words(capsys, "-", "--each-line", stdin=text, monkeypatch=monkeypatch)
    assert spoken == ["one kilometer. two kilometers.", "", "Title", "", "", "last"]


def test_the_options_of_a_request(capsys, tmp_path):
    assert words(capsys, "5", "--language", "de") == ["5"]
    assert words(capsys, "a [1]", "--read-aloud", "citations") == ["A, one"]
    assert words(capsys, 'a<break time="1s"/>b', "--ssml") == ["A", "[pause 1s]", "b"]
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("sql = sequel\n[heart]\nsql = S Q L\n", "utf-8")
    assert words(capsys, "SQL", "--lexicon", str(lexicon)) == ["sequel"]
    assert words(capsys, "SQL", "--lexicon", str(lexicon), "--voice", "heart") == ["S Q L"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["<b>", "--ssml"], 1, "there is no <b>"),
        (["x", "--lexicon", "nowhere.txt"], 2, "cannot read the lexicon nowhere.txt"),
    ],
)
def test_what_is_wrong_is_one_sentence(capsys, arguments, code, sentence):
    assert main(["words", *arguments]) == code
    assert sentence in capsys.readouterr().err
