"""Bytes of a file as text, and back, byte for byte: encoding, byte order mark, line ends. Pure."""

from __future__ import annotations

import codecs
import hashlib
import io
import tokenize
from dataclasses import dataclass, field, replace

from redline_agent.errors import FileRefused
from redline_agent.limits import FILE_BYTES_MAX
from redline_agent.workspace.declared import HEAD_BYTES, PYTHON, of_other, of_python

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def digest(text: str) -> str:
    """Version of a text: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file's text with its line ends as they are on disk, and how to write it back."""

    text: str
    encoding: str = "utf-8"
    bom: bytes = b""
    executable: bool = field(default=False, compare=False)
    """Of a file that a command made: whether it may be executed. A file that is there keeps its mode bits."""

    def with_text(self, text: str) -> TextFile:
        """Return the same kind of file with another text."""
        return replace(self, text=text)

    def encode(self) -> bytes:
        """Bytes for the disk; raises FileRefused when a character does not fit the file's encoding."""
        try:
            return self.bom + self.text.encode(self.encoding)
        except UnicodeEncodeError as error:
            char = self.text[error.start]
            raise FileRefused(
                f"The character {char!r} cannot be written in the file's encoding {self.encoding}.",
                hint="Use another character, or change the file's encoding first.",
            ) from error


def decode(data: bytes, path: str) -> TextFile:
    """Text of `data`; raises FileRefused for what is binary, undecodable or above FILE_BYTES_MAX."""
    if len(data) > FILE_BYTES_MAX:
        raise FileRefused(f"{path} has more than {FILE_BYTES_MAX:,} bytes.", hint="Work on a smaller file.")
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return TextFile(_decoded(data[len(bom) :], encoding, path), encoding, bom)
    if b"\0" in data:
        raise FileRefused(f"{path} is a binary file.")
    if path.endswith(PYTHON):
        encoding = _declared(data, path)
        return TextFile(_decoded(data, encoding, path), encoding)
    said = of_other(data[:HEAD_BYTES].decode("latin-1"), path)
    try:
        text = data.decode("utf-8")
        return TextFile(text, said if said and text.isascii() else "utf-8")
    except UnicodeDecodeError:
        encoding = said if _is_in(data, said) else _detected(data, path)
        return TextFile(_decoded(data, encoding, path), encoding)


def _is_in(data: bytes, encoding: str) -> bool:
    """Whether the bytes are a text in an encoding, and come back from it as they were."""
    try:
        return bool(encoding) and data.decode(encoding).encode(encoding) == data
    except UnicodeError:
        return False


def _declared(data: bytes, path: str) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        raise FileRefused(f"{path} declares an encoding that is unknown or wrong: {error}.") from error
    return "utf-8" if encoding == "utf-8-sig" else encoding


def _detected(data: bytes, path: str) -> str:
    """Return the likeliest encoding, if its text gives back the same bytes; raises FileRefused."""
    if _is_western(data):
        return "cp1252"
    from charset_normalizer import from_bytes  # only for what is not UTF-8

    found = from_bytes(data).best()
    if found is not None and found.encoding.startswith(_WITH_A_MARK):
        found = None  # without a mark nobody writes these, and a short text in another is taken for them
    if found is None or data.decode(found.encoding, "replace").encode(found.encoding, "replace") != data:
        raise FileRefused(f"{path} is not valid UTF-8, and its encoding cannot be told.", hint="Convert it to UTF-8.")
    return found.encoding


_WITH_A_MARK = ("utf_16", "utf_32", "utf_7")
_FEW_CHARS = 64
"""Up to so many characters beyond ASCII nothing can be told by how often each comes."""


def _is_western(data: bytes) -> bool:
    """Whether a text is mostly ASCII with a few Western letters and signs: too few to tell anything else by."""
    beyond = [byte for byte in data if byte > 127]
    if len(beyond) > min(_FEW_CHARS, len(data) // 4):
        return False
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\n\r\f\xa0" for char in text)


def _decoded(data: bytes, encoding: str, path: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileRefused(
            f"{path} is not valid {encoding} (byte {error.start}).", hint="Convert it to UTF-8 to work on it."
        ) from error


def line_end(text: str) -> str:
    r"""Return the line end that most lines of `text` have; "\n" when there is none."""
    crlf = text.count("\r\n")
    return "\r\n" if crlf * 2 > text.count("\n") else "\n"


def line_ends(text: str) -> set[str]:
    r"""Return which of \r\n and \n a text's lines end in."""
    crlf = text.count("\r\n")
    return {end for end, count in (("\r\n", crlf), ("\n", text.count("\n") - crlf)) if count}


def to_line_end(text: str, end: str) -> str:
    r"""Return `text` with each \r\n and \n as `end`."""
    text = text.replace("\r\n", "\n")
    return text if end == "\n" else text.replace("\n", end)


def new_kind(path: str, text: str) -> TextFile:
    """Return the kind of a new file: in the encoding that it declares."""
    encoding = of_python(text) if path.endswith(PYTHON) else of_other(text[:HEAD_BYTES], path)
    return TextFile("", encoding or "utf-8")


def check_encoding(path: str, file: TextFile) -> None:
    """Raise FileRefused for a text that its file's encoding cannot have, or that declares another one."""
    data = file.encode()
    wanted = of_python(file.text) if path.endswith(PYTHON) and not file.bom else ""
    if wanted and wanted != file.encoding and TextFile(file.text, wanted).encode() != data:
        raise FileRefused(
            f"{path} is in {file.encoding}, and would declare {wanted}, which an edit does not make of it.",
            hint="Leave its coding line as it is.",
        )


def renamed(path: str, old: str, new: str) -> str:
    """Return a path as it is when a file or folder `old` has become `new`."""
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path
