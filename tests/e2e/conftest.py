import json

import pytest

from editors import A_PY, B_PY


@pytest.fixture
def asking(tmp_path):
    """A model that asks for leave to read a file beside the workspace."""
    (tmp_path / "beside.txt").write_text("beside\n")
    script = [
        {"calls": [{"tool": "read", "args": {"path": str(tmp_path / "beside.txt")}}]},
        {"calls": [{"tool": "finish", "args": {"summary": "It ended."}}]},
    ]
    (tmp_path / "asking.json").write_text(json.dumps(script))
    return f"scripted:{tmp_path / 'asking.json'}"


@pytest.fixture
def scripted_edit(tmp_path):
    """Make a model that makes one edit of a.py and ends; returns its name."""

    def make(name, old, new):
        edit = {"calls": [{"tool": "edit", "args": {"path": "a.py", "old": old, "new": new, "reason": name}}]}
        (tmp_path / name).write_text(json.dumps([edit, {"calls": [{"tool": "finish", "args": {"summary": name}}]}]))
        return f"scripted:{tmp_path / name}"

    return make


@pytest.fixture
def scripted_file(tmp_path):
    """A model that proposes a new file which tools run later."""
    write = {"tool": "write", "args": {"path": "conftest.py", "content": "x = 1\n"}}
    script = [{"calls": [write]}, {"calls": [{"tool": "finish", "args": {"summary": "done"}}]}]
    (tmp_path / "files.json").write_text(json.dumps(script))
    return f"scripted:{tmp_path / 'files.json'}"


@pytest.fixture
def project(folder):
    (folder / "a.py").write_text(A_PY)
    (folder / "b.py").write_text(B_PY)
    return folder
