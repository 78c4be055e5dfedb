import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import disk, lay, permit
from redline_agent.errors import FileRefused, StaleFile
from redline_agent.safety.paths import Resolver
from redline_agent.workspace.hunks import Origin, merged
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


TEN = "".join(f"line {n}\n" for n in range(10))


def test_it_follows_what_the_user_types_under_it(folder):
    over = overlay(folder, a__py=TEN)
    edited = TEN.replace("line 2", "two")
    over.write("a.py", edited, BY, permit("write", "a.py", edited))
    over.buffers.texts["a.py"] = "# typed\n" + TEN.replace("line 7", "seven, typed")
    both = "# typed\n" + edited.replace("line 7", "seven, typed")
    assert over.find("a.py").file.text == both
    assert over.touched["a.py"].base.text == over.buffers.texts["a.py"]


def test_where_the_user_changed_the_same_lines_it_stays_as_it_was(folder):
    over = overlay(folder, a__py=TEN)
    edited = TEN.replace("line 2", "two")
    over.write("a.py", edited, BY, permit("write", "a.py", edited))
    over.buffers.texts["a.py"] = TEN.replace("line 2", "typed")
    assert over.find("a.py").file.text == edited


def test_a_whole_file_is_not_written_over_what_was_typed_but_quoted_lines_may_be(folder):
    over = overlay(folder, a__py=TEN)
    over.read("a.py")
    over.buffers.texts["a.py"] = now = TEN + "typed\n"
    with pytest.raises(StaleFile):
        over.write("a.py", "x\n", BY, permit("write", "a.py", "x\n"))
    one = now.replace("line 1", "one")
    over.write("a.py", one, BY, permit("write", "a.py", one), region=True)
    with pytest.raises(StaleFile):
        over.write("a.py", "x\n", BY, permit("write", "a.py", "x\n"))
    over.read("a.py")
    over.write("a.py", "x\n", BY, permit("write", "a.py", "x\n"))


LINES = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n"]), max_size=8).map("".join)


@given(LINES, LINES)
def test_one_sided_changes_merge_to_that_side(base, other):
    assert merged(base, other, base) == merged(base, base, other) == merged(base, other, other) == other


@given(LINES, LINES, LINES)
def test_a_merge_is_the_same_from_both_sides_and_keeps_what_neither_touched(base, ours, theirs):
    assert merged(base, ours, theirs) == merged(base, theirs, ours)


@given(LINES, LINES, LINES, LINES)
def test_changes_far_apart_both_stay(head, tail, ours, theirs):
    middle = "".join(f"kept {n}\n" for n in range(3))
    assert merged(head + middle + tail, ours + middle + tail, head + middle + theirs) == ours + middle + theirs


def test_a_conflict_in_some_lines_keeps_no_other_typing_out(folder):
    text = "".join(f"line{n}\n" for n in range(20))
    lay(folder, {"a.txt": text})
    over = overlay(folder, a__txt=text)
    over.write(
        "a.txt", text.replace("line1\n", "agent\n"), BY, permit("write", "a.txt", text.replace("line1\n", "agent\n"))
    )
    over.buffers.texts["a.txt"] = "new\n" + text.replace("line1\n", "user\n").replace("line15\n", "typed\n")
    now = over.read("a.txt").file.text
    assert now == "new\n" + text.replace("line1\n", "agent\n").replace("line15\n", "typed\n")
    over.buffers.texts["a.txt"] += "end\n"
    assert over.read("a.txt").file.text.endswith("line19\nend\n")
