"""What a command wrote while the user went on: nothing of the user's is lost, and what cannot be said is told."""

import asyncio
import os
import time

import pytest
from kit import issue, lay, workspace
from redline_agent.deciding import accept
from redline_agent.errors import FileRefused
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.sandbox.layers import Found
from redline_agent.workspace.hunks import Origin
from redline_agent.workspace.overlay import Overlay
from redline_agent.workspace.proposing import propose
from redline_agent.workspace.workbench import Workbench

BY = Origin(1, "c", "run", "why")


class Editor:
    """Open documents that the user types in."""

    def __init__(self, **texts):
        self.texts = texts

    def open_text(self, path):
        return (self.texts[path], 1) if path in self.texts else None

    def open_paths(self):
        return list(self.texts)


def run(folder, overlay, command, *, meanwhile=lambda: None, then="", found=None):
    """Run a command over an overlay; returns its harvest, and what another command prints afterwards."""
    ws = workspace(folder)

    async def go():
        bench = Workbench(overlay, Keeper(ws.rules, folder, trusted=True), folder.parent / "scratch", found=found)
        await bench.ready()

        async def once(text, beside):
            request, began_s = bench.command(text, "."), time.time()
            task = asyncio.create_task(bench.run(request, issue(request), timeout_s=20))
            await asyncio.sleep(0.3)
            beside()
            return await task, began_s

        try:
            _, began_s = await once(command, meanwhile)
            harvest = await bench.harvest(BY, began_s)
            after, _ = await once(then or "true", lambda: None)
            return harvest, after.out.decode()
        finally:
            await bench.close()

    return asyncio.run(go())


def proposed(folder, overlay):
    ws = workspace(folder)
    return propose(overlay, run="r", session="s", instruction="x", rules=ws.rules, proof=[], notes=[])


def test_what_is_typed_elsewhere_stays_and_what_is_typed_in_the_same_lines_wins(folder):
    text = "one\ntwo  \nthree\nfour\n"
    lay(folder, {"a.txt": text, "b.txt": text})
    editor = Editor(**{"a.txt": text, "b.txt": text})
    overlay = Overlay(workspace(folder).resolver, editor)

    def typing():
        editor.texts["a.txt"] = text + "TYPED\n"
        editor.texts["b.txt"] = text.replace("two  ", "TYPED")

    harvest, shown = run(folder, overlay, "sleep 0.8; sed -i 's/ *$//' a.txt b.txt", meanwhile=typing, then="cat b.txt")
    assert harvest.taken == ["a.txt"]
    assert list(harvest.left) == ["b.txt"]
    assert "changed in the editor" in harvest.left["b.txt"]
    assert shown == editor.texts["b.txt"]  # the next command sees what the user has
    (review,) = proposed(folder, overlay).files.values()
    assert review.result([hunk.id for hunk in review.hunks]) == "one\ntwo\nthree\nfour\nTYPED\n"


def test_a_stale_result_is_not_what_the_next_command_sees(folder):
    lay(folder, {"a.txt": "1\n"})
    overlay = Overlay(workspace(folder).resolver)
    save = lambda: (folder / "a.txt").write_text("the user's\n")
    harvest, shown = run(folder, overlay, "sleep 0.8; echo agent > a.txt", meanwhile=save, then="cat a.txt")
    assert (harvest.taken, harvest.stale, shown) == ([], ["a.txt"], "the user's\n")


def test_files_that_a_command_makes_keep_their_bytes(folder):
    lay(folder, {"l.txt": "x\n"})
    (folder / "l.txt").write_bytes("größe straße schön\n".encode("latin-1"))
    overlay = Overlay(workspace(folder).resolver)
    harvest, _ = run(
        folder, overlay,
        r"printf '\357\273\277a,b\r\n' > bom.csv; printf '\377\376a\0\n\0' > wide.txt;"
        " iconv -f latin1 -t utf8 l.txt > t && cat t > l.txt; rm t",
    )  # fmt: skip
    assert harvest.taken == ["bom.csv", "wide.txt"]
    assert "encoding" in harvest.left["l.txt"]
    proposal = proposed(folder, overlay)
    accept(workspace(folder), proposal, [item.id for item in proposal.items])
    assert (folder / "bom.csv").read_bytes() == b"\xef\xbb\xbfa,b\r\n"
    assert (folder / "wide.txt").read_bytes() == b"\xff\xfea\0\n\0"


def test_without_a_sandbox_the_large_folders_are_copies(folder):
    lay(folder, {"a.txt": "1\n", "node_modules/m/index.js": "x\n"})
    run(folder, Overlay(workspace(folder).resolver), "touch node_modules/m/leak", found=Found(None))
    assert [path.name for path in (folder / "node_modules/m").iterdir()] == ["index.js"]


def test_a_coding_line_is_not_changed_without_the_bytes(folder):
    ws = workspace(folder)
    (folder / "a.py").write_bytes("# coding: latin-1\nx = 'ö'\n".encode("latin-1"))
    overlay = Overlay(ws.resolver)
    write = lambda path, text: overlay.write(path, text, BY, issue_write(path, text))
    with pytest.raises(FileRefused, match="would declare utf-8"):
        write("a.py", "# coding: utf-8\nx = 'ö'\n")
    write("a.py", "# coding: latin-1\nx = 'öö'\n")
    write("new.py", "# coding: latin-1\nx = 'ö'\n")
    proposal = proposed(folder, overlay)
    accept(ws, proposal, [item.id for item in proposal.items])
    assert (folder / "a.py").read_bytes() == "# coding: latin-1\nx = 'öö'\n".encode("latin-1")
    assert (folder / "new.py").read_bytes() == "# coding: latin-1\nx = 'ö'\n".encode("latin-1")


def issue_write(path, text):
    from redline_agent.safety.requests import Access, text_digest

    return issue(Access("write", path, content=text_digest(text)))


def test_a_document_that_was_never_saved_is_a_file_too(folder):
    lay(folder, {"a.py": "x\n", ".gitignore": "*.log\n"})
    editor = Editor(**{"new.py": "y\n", "a.py": "x\n", "b.log": "z\n"})
    assert Overlay(workspace(folder).resolver, editor).walk() == [".gitignore", "a.py", "new.py"]


def test_over_a_copy_a_save_below_takes_none_of_the_agents_edits_back(folder, monkeypatch):
    lay(folder, {"a.txt": "one  \n", "gone.txt": "x\n", "b.txt": "b\n"})
    overlay = Overlay(workspace(folder).resolver)
    overlay.write("a.txt", "two  \n", BY, issue_write("a.txt", "two  \n"))

    def saved():
        (folder / "a.txt").write_text("one  \n")  # the same text, with another time
        (folder / "gone.txt").unlink()

    _, shown = run(folder, overlay, "true", meanwhile=saved, then="cat a.txt; ls", found=Found(None))
    assert shown == "two  \na.txt\nb.txt\n"
    assert overlay.find("a.txt").file.text == "two  \n"


def test_nothing_is_written_beneath_a_file(folder):
    lay(folder, {"a": "x\n"})
    overlay = Overlay(workspace(folder).resolver)
    with pytest.raises(FileRefused, match="a is a file"):
        overlay.write("a/x.py", "y\n", BY, issue_write("a/x.py", "y\n"))


@pytest.mark.parametrize("found", [None, Found(None)], ids=["sandbox", "copy"])
def test_a_save_of_another_file_makes_what_came_of_the_command_stale(folder, found):
    lay(folder, {"in.txt": "1\n", "out.txt": "", "moved.txt": "2\n", "build/x": "", ".gitignore": "build/\n"})
    overlay = Overlay(workspace(folder).resolver)
    harvest, _ = run(folder, overlay, "cat in.txt > out.txt; sleep 0.8", found=found)
    assert (harvest.taken, harvest.below) == (["out.txt"], [])

    def save():
        (folder / "in.txt").write_text("2\n")
        (folder / "build/x").write_text("ignored\n")

    harvest, _ = run(folder, overlay, "cat in.txt in.txt > out.txt; sleep 0.8", meanwhile=save, found=found)
    assert (harvest.taken, harvest.below) == (["out.txt"], ["in.txt"])
    (review,) = proposed(folder, overlay).files.values()
    assert "stale: in.txt changed while it ran" in review.hunks[0].reason


def test_a_file_that_is_moved_in_with_an_old_date_is_noticed(folder):
    lay(folder, {"a.txt": "1\n", "b.txt": "2\n"})
    os.utime(folder / "b.txt", (1_000_000_000, 1_000_000_000))
    move = lambda: (folder / "b.txt").rename(folder / "a.txt")
    harvest, _ = run(folder, Overlay(workspace(folder).resolver), "sleep 0.8; echo x >> a.txt", meanwhile=move)
    assert (harvest.taken, harvest.stale) == ([], ["a.txt"])
    assert (folder / "a.txt").read_text() == "2\n"


def test_a_save_of_what_was_open_changes_nothing_and_typing_does(folder):
    lay(folder, {"a.txt": "1\n", "b.txt": "1\n"})
    editor = Editor(**{"a.txt": "typed before\n", "b.txt": "1\n"})

    def meanwhile():
        (folder / "a.txt").write_text("typed before\n")
        editor.texts["b.txt"] = "typed\n"

    overlay = Overlay(workspace(folder).resolver, editor)
    harvest, _ = run(folder, overlay, "sleep 0.8", meanwhile=meanwhile)
    assert harvest.below == ["b.txt"]


def test_a_file_that_is_opened_and_edited_meanwhile_counts_and_an_ignored_one_does_not(folder):
    lay(folder, {"a.txt": "1\n", "b.txt": "1\n", "c.log": "1\n", ".gitignore": "*.log\n"})
    editor = Editor(**{"c.log": "1\n"})

    def meanwhile():
        editor.texts |= {"a.txt": "typed\n", "b.txt": "1\n", "c.log": "typed\n"}
        (folder / "a.txt").write_text("typed\n")

    harvest, _ = run(folder, Overlay(workspace(folder).resolver, editor), "sleep 0.8", meanwhile=meanwhile)
    assert harvest.below == ["a.txt"]


def test_a_file_that_the_run_has_read_and_that_goes_meanwhile_counts(folder):
    lay(folder, {"a.txt": "1\n", "b.txt": "1\n"})
    overlay = Overlay(workspace(folder).resolver)
    overlay.read("a.txt")
    harvest, _ = run(folder, overlay, "sleep 0.8", meanwhile=lambda: (folder / "a.txt").unlink())
    assert harvest.below == ["a.txt"]
