import pytest
from kit import ask_builtin, lay, proposed_text
from redline_agent.models.builtin import INSTRUCTIONS, understood

PKG = {
    "pkg/__init__.py": "from pkg.shapes import Square, area\n\n__all__ = ['Square', 'area']\n",
    "pkg/shapes.py": (
        "def area(side):\n    return side * side\n\n\nclass Square:\n    def size(self):\n        return area(self.side)\n\n"
        "    def __init__(self, side):\n        self.side = side\n"
    ),
    "pkg/use.py": "import pkg\nfrom pkg import shapes as s\n\n\ndef go(thing):\n    return pkg.area(2), s.area(3), thing.size()\n",
    "README.md": "Call `area` for the area.\n",
}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ("rename a to b", 1),
        ("Rename `a.b` to `c` in src/x.py on line 3.", 1),
        ("please rename the function foo as bar", 1),
        ("organise imports", 1),
        ("sort the imports in src", 1),
        ("organize imports in the project", 1),
        ("fix lint", 1),
        ("fix all lint errors in this file", 1),
        ("remove unused", 1),
        ("Remove unused imports in a.py", 1),
        ("modernise syntax", 1),
        ("modernize the code in pkg", 1),
        ("rename a to b, then organise imports", 2),
        ("rename a to b; remove unused; modernise syntax", 3),
        ("rename a to b and organise imports", 2),
        ("rename a to b and make coffee", 0),
        ("write a poem", 0),
        ("", 0),
    ],
)
def test_it_understands_what_it_says_it_does(words, count):
    assert len(understood(words)) == count


def test_every_documented_example_is_understood():
    for instruction in INSTRUCTIONS:
        plain = instruction.example.replace("[", "").replace("]", "").replace("PATH", "a.py").replace("N", "3")
        assert understood(plain), instruction.example


def test_a_rename_changes_what_is_proven_and_lists_the_rest(folder):
    run = ask_builtin(lay(folder, PKG), "rename area to surface")
    assert run.state == "proposed"
    assert proposed_text(run, "pkg/__init__.py") == PKG["pkg/__init__.py"].replace("area", "surface")
    assert proposed_text(run, "pkg/shapes.py") == PKG["pkg/shapes.py"].replace("area", "surface")
    assert proposed_text(run, "pkg/use.py") == PKG["pkg/use.py"].replace("area", "surface")
    assert "README.md:1: Call `area` for the area.  [not Python code]" in run.answer


def test_a_method_whose_object_is_unknown_is_listed_not_changed(folder):
    run = ask_builtin(lay(folder, PKG), "rename Square.size to extent in pkg/shapes.py")
    assert {hunk.path for hunk in run.proposal.hunks} == {"pkg/shapes.py"}
    assert "pkg/use.py:6: return pkg.area(2), s.area(3), thing.size()  [the object's type is not known]" in run.answer


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("rename nothing_here to x", "Nothing here defines nothing_here"),
        ("rename area to Square", "already in use: pkg/"),
        ("rename area to list", "Python builtin"),
        ("rename area to class in pkg/shapes.py", "not a usable Python name"),
        ("rename area to area", "the same"),
        ("rename twin to other", "defined in several files"),
        ("rename local to other in pkg/twins.py", "could be any of these"),
        ("rename area to surface in pkg/none.py", "no file"),
        ("rename area to surface in README.md", "Nothing in README.md defines area"),
        ("rename area to 2bad", "'2bad' is not a usable Python name"),
        ("rename Nowhere.size to x", "Nothing here defines Nowhere.size"),
        ("rename x to y in broken.py", "not valid Python"),
        ("rename __init__ to setup in pkg/shapes.py", "has a meaning to Python"),
        ("fix lint in nowhere", "There is no nowhere"),
        ("fix lint in README.md", "no Python file"),
    ],
)
def test_what_it_cannot_do_it_says_in_the_words_to_use_instead(folder, words, says):
    lay(folder, PKG)
    lay(folder, {"one.py": "def twin(): ...\n", "two.py": "def twin(): ...\n", "broken.py": "x = (\n"})
    lay(
        folder,
        {"pkg/twins.py": "def f():\n    local = 1\n    return local\n\n\ndef g():\n    local = 2\n    return local\n"},
    )
    run = ask_builtin(folder, words)
    assert (run.state, run.proposal) == ("refused", None)
    assert says in run.answer


def test_twins_are_told_apart_by_line(folder):
    twins = "def f():\n    local = 1\n    return local\n\n\ndef g():\n    local = 2\n    return local\n"
    run = ask_builtin(lay(folder, {"twins.py": twins}), "rename local to other in twins.py on line 7")
    assert proposed_text(run, "twins.py") == twins[:39] + twins[39:].replace("local", "other")


def test_line_ends_and_byte_order_mark_stay_as_they_were(folder):
    text = b"\xef\xbb\xbfdef f():\r\n    return 1\r\n\r\n\r\nprint(f())"
    run = ask_builtin(lay(folder, {"a.py": text}), "rename f to g")
    review = run.proposal.files["a.py"]
    after = review.file.with_text(review.result([h.id for h in review.hunks])).encode()
    assert after == text.replace(b"f()", b"g()")


def test_a_keyword_argument_is_renamed_at_its_calls(folder):
    lay(folder, {"a.py": "def f(size):\n    return size\n\n\nf(size=1)\n", "b.py": "from a import f\n\nf(size=2)\n"})
    run = ask_builtin(folder, "rename size to width in a.py on line 1")
    assert proposed_text(run, "b.py") == "from a import f\n\nf(width=2)\n"


def test_an_unused_import_that_another_file_takes_is_left(folder):
    lay(
        folder,
        {"compat.py": "import os\nfrom json import dumps\n", "use.py": "from compat import dumps\n\nprint(dumps(1))\n"},
    )
    run = ask_builtin(folder, "remove unused")
    assert run.proposal is None
    assert "Left alone 1 file, because another file imports what is unused there: compat.py." in run.answer


def test_import_order_is_left_where_it_can_matter(folder):
    text = "import sys\nimport os\n\nprint(os, sys)\n"
    lay(folder, {"a.py": text, "p/__init__.py": text, "q.py": "from os import *\n" + text})
    run = ask_builtin(folder, "organise imports")
    assert {hunk.path for hunk in run.proposal.hunks} == {"a.py"}
    assert "p/__init__.py, q.py" in run.answer


def test_the_projects_own_rules_are_kept(folder):
    lay(
        folder,
        {"ruff.toml": 'target-version = "py37"\n', "a.py": "from typing import Optional\n\nx: Optional[int] = None\n"},
    )
    assert ask_builtin(folder, "modernise syntax").proposal is None


def test_only_the_targets_are_touched(folder):
    lay(folder, {"a.py": "import os\n", "b.py": "import os\n"})
    run = ask_builtin(folder, "remove unused", targets=("a.py",))
    assert {hunk.path for hunk in run.proposal.hunks} == {"a.py"}


def test_an_import_that_a_test_expects_to_fail_is_left(folder):
    text = "import pytest\n\n\ndef test_it():\n    with pytest.raises(ImportError):\n        from json import nothing\n"
    run = ask_builtin(lay(folder, {"test_a.py": text}), "remove unused")
    assert run.proposal is None
    assert "there may be for its effect" in run.answer


def test_an_import_that_an_executed_string_uses_is_left(folder):
    run = ask_builtin(lay(folder, {"a.py": "from json import dumps\n\nexec('print(dumps(1))')\n"}), "remove unused")
    assert run.proposal is None


def test_a_line_says_which_of_two_definitions_is_meant(folder):
    text = "from os import path\n\n\ndef path():\n    return 1\n"
    run = ask_builtin(lay(folder, {"a.py": "import sys\n" + text}), "rename path to way in a.py on line 5")
    assert run.state in ("proposed", "refused")


def test_a_second_run_in_a_session_does_the_second_thing(folder):
    import asyncio

    from kit import carry_out, workspace
    from redline_agent.models.builtin import BuiltinModel

    lay(folder, {"a.py": "import os\n\n\ndef foo(): ...\n"})
    ws = workspace(folder)

    async def go():
        first, _ = await carry_out(ws, BuiltinModel(), "rename foo to bar")
        second, _ = await carry_out(ws, BuiltinModel(), "remove unused", session=first.session)
        return second

    run = asyncio.run(go())
    assert [hunk.reason for hunk in run.proposal.hunks] == ["remove unused"]


def test_a_path_with_spaces_is_quoted(folder):
    run = ask_builtin(lay(folder, {"my dir/a b.py": "import os\n"}), 'remove unused in "my dir/a b.py"')
    assert {hunk.path for hunk in run.proposal.hunks} == {"my dir/a b.py"}


def test_a_member_is_looked_for_by_its_class(folder):
    lay(folder, {"one.py": "class One:\n    def size(self): ...\n", "two.py": "class Two:\n    def size(self): ...\n"})
    assert {h.path for h in ask_builtin(folder, "rename Two.size to extent").proposal.hunks} == {"two.py"}
