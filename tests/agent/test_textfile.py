import pytest
from hypothesis import given
from hypothesis import strategies as st
from redline_agent.errors import FileRefused
from redline_agent.workspace.textfile import decode, new_kind


@pytest.mark.parametrize(
    "data",
    [
        b"plain\n",
        b"\xef\xbb\xbfwith mark\r\n",
        b"no final newline",
        "umlaut ä 🙂\n".encode(),
        b"\xff\xfea\0b\0\n\0",
        b"mixed\r\nends\nand\rmore",
        b"# -*- coding: latin-1 -*-\nx = '\xe9'\n",
        b"",
    ],
)
def test_a_file_goes_back_byte_for_byte(data):
    assert decode(data, "a.py").encode() == data


@given(st.text())
def test_any_utf8_text_goes_back(text):
    data = text.encode("utf-8", "ignore")
    if b"\0" not in data and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        assert decode(data, "a.txt").encode() == data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"a\0b", "binary"),
        (b"caf\xe9 \xff", "encoding"),
        (b"# coding: nonsense\n", "encoding"),
        (b"x" * (8 * 2**20 + 1), "bytes"),
    ],
)
def test_what_is_not_text_is_refused_with_the_reason(data, says):
    with pytest.raises(FileRefused) as refused:
        decode(data, "a.py" if b"coding" in data or b"caf" in data else "a.txt")
    assert says in str(refused.value)


def test_a_character_that_does_not_fit_is_refused():
    with pytest.raises(FileRefused, match="cannot be written"):
        decode(b"# coding: latin-1\n", "a.py").with_text("🙂").encode()


@pytest.mark.parametrize(
    "text", ["price: 5£\n", "# Müller\nx = 1\n", "señor\nniño\n", "café au lait\n", "naïve — “quoted”\n"]
)
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_a_few_western_letters_are_not_taken_for_anything_else(text, encoding):
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        return
    file = decode(data, "x.txt")
    assert (file.text, file.encode()) == (text, data)
    assert file.with_text(text + "x\n").encode() == data + b"x\n"


POLISH = "źródło jest żadne"


@pytest.mark.parametrize(
    ("path", "head", "encoding"),
    [
        ("a.xml", '<?xml version="1.0" encoding="ISO-8859-2"?>\n', "iso8859-2"),
        ("a.svg", "<?xml version='1.0' encoding='windows-1250'?>\n", "cp1250"),
        ("a.html", '<html><head><meta charset="iso-8859-2">\n', "iso8859-2"),
        ("a.htm", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1250">\n', "cp1250"),
        ("a.rb", "# encoding: iso-8859-2\n", "iso8859-2"),
        ("a.el", ";;; a.el -*- mode: lisp; coding: latin-2 -*-\n", "iso8859-2"),
        ("a.c", "/* vim: set fileencoding=cp1250: */\n", "cp1250"),
    ],
)
def test_what_a_file_declares_is_how_it_is_read_and_written(path, head, encoding):
    data = (head + POLISH + "\n").encode(encoding)
    file = decode(data, path)
    assert (file.text, file.encoding, file.encode()) == (head + POLISH + "\n", encoding, data)
    plain = decode(head.encode(), path)  # nothing beyond ASCII yet
    assert plain.with_text(head + POLISH + "\n").encode() == data
    assert new_kind(path, head + POLISH).with_text(head + POLISH + "\n").encode() == data


@pytest.mark.parametrize(
    "head",
    [
        '<?xml version="1.0" encoding="ISO-8859-2"?>\n',
        '<?xml encoding="nonsense"?>\n',
        '<?xml encoding="hex"?>\n',
        "<?xml encoding='utf-16'?>\n",
    ],
)
def test_what_is_utf8_whatever_it_declares_is_that(head):
    data = (head + POLISH).encode()
    assert (decode(data, "a.xml").encoding, decode(data, "a.xml").encode()) == ("utf-8", data)
