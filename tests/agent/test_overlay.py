import os

import pytest
from kit import disk, lay, permit
from redline_agent.errors import FileRefused, StaleFile
from redline_agent.safety.paths import Resolver
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay

BY = Origin(1, "c1", "edit", "because")


class Buffers:
    def __init__(self, texts):
        self.texts = texts

    def open_text(self, path):
        return (self.texts[path], 1) if path in self.texts else None

    def open_paths(self):
        return list(self.texts)


def overlay(root, **buffers):
    return Overlay(Resolver(root), Buffers({name.replace("__", "."): text for name, text in buffers.items()}))


def test_edits_stay_in_the_overlay(folder):
    lay(folder, {"a.py": "1\n", "b.py": "2\n"})
    before = disk(folder)
    over = overlay(folder)
    over.write("a.py", "one\n", BY, permit("write", "a.py", "one\n"))
    over.delete("b.py", BY, permit("delete", "b.py"))
    over.write("new/c.py", "3\n", BY, permit("write", "new/c.py", "3\n"))
    over.move("a.py", "moved.py", BY, permit("move", "a.py"), permit("move", "moved.py"))
    assert disk(folder) == before
    assert over.walk() == ["moved.py", "new/c.py"]
    assert over.find("moved.py").file.text == "one\n"
    assert over.find("a.py") is None


def test_an_unsaved_buffer_wins_over_the_disk(folder):
    lay(folder, {"a.py": "disk\n"})
    over = overlay(folder, a__py="typed\n")
    assert (over.read("a.py").file.text, over.read("a.py").source) == ("typed\n", "buffer")


def test_a_file_that_changed_since_it_was_read_is_refused(folder):
    lay(folder, {"a.py": "1\n"})
    over = overlay(folder)
    over.read("a.py")
    (folder / "a.py").write_text("2\n")
    with pytest.raises(StaleFile, match="changed since it was read"):
        over.write("a.py", "3\n", BY, permit("write", "a.py", "3\n"))


def test_a_file_that_vanished_is_told(folder):
    lay(folder, {"a.py": "1\n"})
    over = overlay(folder)
    over.read("a.py")
    (folder / "a.py").unlink()
    with pytest.raises(FileRefused, match="no file a.py"):
        over.read("a.py")


def test_many_files_are_all_or_nothing(folder):
    lay(folder, {"a.py": "1\n", "b.py": "2\n"})
    over = overlay(folder)
    with pytest.raises(FileRefused), over.all_or_nothing():
        over.write("a.py", "one\n", BY, permit("write", "a.py", "one\n"))
        over.delete("missing.py", BY, permit("delete", "missing.py"))
    assert over.touched == {}
    assert over.find("a.py").file.text == "1\n"


def test_a_move_onto_a_file_is_refused(folder):
    lay(folder, {"a.py": "1\n", "b.py": "2\n"})
    with pytest.raises(FileRefused, match="exists already"):
        overlay(folder).move("a.py", "b.py", BY, permit("move", "a.py"), permit("move", "b.py"))


def test_ignored_files_are_not_walked(folder):
    lay(
        folder, {".gitignore": "*.log\n/build/\n!keep.log\n", "a.py": "", "x.log": "", "keep.log": "", "build/b.py": ""}
    )
    lay(folder, {"sub/.gitignore": "local.py\n", "sub/local.py": "", "sub/c.py": "", "node_modules/d.js": ""})
    assert overlay(folder).walk() == [".gitignore", "a.py", "keep.log", "sub/.gitignore", "sub/c.py"]
    assert overlay(folder).walk("sub") == ["sub/.gitignore", "sub/c.py"]


@pytest.mark.skipif(os.name == "nt", reason="named pipes of POSIX")
def test_a_named_pipe_is_refused_and_does_not_hang(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(FileRefused, match="not a regular file"):
        overlay(folder).find("pipe")


def test_a_sparse_giant_is_refused_at_once(folder):
    with open(folder / "big", "wb") as file:
        file.truncate(2**40)
    with pytest.raises(FileRefused, match="more than"):
        overlay(folder).find("big")
