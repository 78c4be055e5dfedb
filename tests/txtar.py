"""Stories as text archives: files after lines of `-- name --`, comments before the first."""

import re
from pathlib import Path

_MARK = re.compile(r"^-- (.+) --$")


def read(path: Path) -> dict[str, str]:
    files, name, lines = {}, None, []
    for line in path.read_text("utf-8").splitlines(keepends=True):
        found = _MARK.match(line.rstrip("\n"))
        if found:
            if name is not None:
                files[name] = "".join(lines)
            name, lines = found[1], []
        else:
            lines.append(line)
    if name is None:
        return {"": "".join(lines)}
    files[name] = "".join(lines)
    return files


def beneath(files: dict[str, str], prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): text for name, text in files.items() if name.startswith(prefix)}


def replace(path: Path, name: str, text: str) -> None:
    """Write one file of the archive anew, for REDLINE_UPDATE=1."""
    source = path.read_text("utf-8")
    start = source.index(f"-- {name} --\n") + len(f"-- {name} --\n")
    rest = re.search(r"^-- .+ --$", source[start:], re.MULTILINE)
    end = start + rest.start() if rest else len(source)
    path.write_text(source[:start] + text + source[end:], "utf-8")
