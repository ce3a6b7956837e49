import io
import json
import pickle

import pytest

from samebox.core.errors import NotHere, SameboxError
from samebox.core.files import write_json
from samebox.core.text import file_stem, one_line, print_text, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("traffic light", "traffic light"),
        ("Straße 道路 ☃", "Straße 道路 ☃"),
        ("می\u200cروم", "می\u200cروم"),
        ("two\nlines\tand\u00a0a\u2028space", "two lines and a space"),
        ("\x1b[31mred\x1b[0m", "?[31mred?[0m"),
        ("\x9b31m\x07\x00", "?31m??"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("right\u202eleft\u2066\ufeff", "right?left??"),
        (b"bytes", "b'bytes'"),
    ],
)
def test_only_visible_characters_are_left(text, expected):
    assert printable(text) == expected
    assert printable(expected) == expected


def test_a_long_text_is_cut():
    assert one_line("a" * 10_000_000, 10) == "a" * 9 + "…"


@pytest.mark.parametrize("error", [SameboxError, NotHere])
def test_an_error_is_one_line_without_terminal_codes(error):
    raised = pickle.loads(pickle.dumps(error("bad\x1b]0;name\x07.onnx:\nline")))
    assert str(raised) == "bad?]0;name?.onnx: line"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_printed_lines_fit_every_stream(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    print_text("Δ \x1b[31m\udcff\nline", stream)
    stream.seek(0)
    assert stream.read() == f"{'Δ' if encoding == 'utf-8' else '?'} ?[31m?\nline\n"


def test_a_lone_surrogate_does_not_end_the_writing_of_a_file(tmp_path):
    write_json(tmp_path / "names.json", {"name": "\udcff.jpg"})
    assert json.loads((tmp_path / "names.json").read_text()) == {"name": "\udcff.jpg"}


def test_the_stem_of_a_file_fits_every_file_system():
    assert file_stem("\x1b[2J\udcff ü") == "_[2J_ ü"
    assert len(file_stem("道" * 300).encode()) == 150
