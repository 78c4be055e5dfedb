"""Whole folders, files above the limit, and files in other encodings."""

from kit import call, disk, finish, lay, play, proposed_text, results
from redline_agent.deciding import accept
from redline_agent.limits import FILE_BYTES_MAX

FILES = {"pkg/a.py": "a = 1\n", "pkg/sub/b.py": "b = 1\n", "other.py": "c = 1\n"}


def accepted(folder, run):
    from kit import workspace

    accept(workspace(folder), run.proposal, [item.id for item in run.proposal.items])
    return disk(folder)


def test_a_folder_is_moved_with_all_that_is_in_it(folder):
    lay(folder, FILES)
    run, _, _ = play(folder, [call("move", path="pkg", to="lib/new"), finish()])
    assert {(op.kind, op.path, op.new_path) for op in run.proposal.operations} == {
        ("rename", "pkg/a.py", "lib/new/a.py"), ("rename", "pkg/sub/b.py", "lib/new/sub/b.py")
    }  # fmt: skip
    assert accepted(folder, run) == {"lib/new/a.py": "a = 1\n", "lib/new/sub/b.py": "b = 1\n", "other.py": "c = 1\n"}


def test_what_does_not_go_along_with_a_folder_is_said(folder):
    lay(folder, {**FILES, "pkg/data.local": "x\n", "pkg/.env": "KEY=1\n", ".gitignore": "*.local\n"})
    _, events, _ = play(folder, [call("move", path="pkg", to="lib"), finish()])
    assert "Moved pkg to lib (2 files). 2 files stay in pkg: ignored, of secrets, or no text." in results(events)[0][1]


def test_a_folder_is_deleted_with_all_that_is_in_it(folder):
    lay(folder, FILES)
    run, _, _ = play(folder, [call("delete", path="pkg"), finish()])
    assert accepted(folder, run) == {"other.py": "c = 1\n"}


def test_a_folder_that_holds_what_may_not_be_touched_stays_whole(folder):
    lay(folder, {**FILES, "pkg/.vscode/settings.json": "{}\n"})
    run, events, _ = play(folder, [call("delete", path="pkg"), finish()])
    assert results(events)[0][0]
    assert run.proposal is None


def test_a_large_file_is_read_by_range_alone(folder):
    line = "0123456789" * 10
    lay(folder, {"big.log": f"{line}\n" * (FILE_BYTES_MAX // 100 + 10) + "the end\n"})
    last = FILE_BYTES_MAX // 100 + 11
    script = [call("read", path="big.log"), call("read", path="big.log", start=last - 1, end=last + 5),
              call("edit", path="big.log", old="the end", new="x"), finish()]  # fmt: skip
    run, events, _ = play(folder, script)
    (whole, text), (part, shown), (edited, _), _ = results(events)
    assert (whole, part, edited) == (True, False, True)
    assert "more than" in text
    assert f"{last}\tthe end" in shown
    assert run.proposal is None


def test_a_file_in_another_encoding_keeps_its_bytes(folder):
    text = "Grüße aus Köln.\nDie Straße ist schön, die Bäume blühen über dem Fluß.\nÄpfel, Öl und Übermut.\n"
    lay(folder, {"brief.txt": text.encode("cp1252")})
    run, _, _ = play(folder, [call("edit", path="brief.txt", old="Äpfel", new="Birnen"), finish()])
    assert "Straße" in proposed_text(run, "brief.txt")
    from kit import workspace

    accept(workspace(folder), run.proposal, [item.id for item in run.proposal.items])
    assert (folder / "brief.txt").read_bytes() == text.replace("Äpfel", "Birnen").encode("cp1252")
