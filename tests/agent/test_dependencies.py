"""What a hunk needs: uses their definitions and imports, ends of definitions the ends of uses."""

import pytest
from kit import call, finish, lay, play

A = "import os\n\n\ndef old(x):\n    return x\n\n\n# a\n# b\n# c\n\n\ndef user():\n    return old(1)\n"


def links(folder, files, *replies):
    lay(folder, files)
    run, _, _ = play(folder, [*replies, finish()])
    items = {item.id: item for item in run.proposal.items}
    names = {
        ident: f"{item.path}:{''.join(item.new)[:14].rstrip(chr(10)).strip(' ') if hasattr(item, 'new') else item.kind}"
        for ident, item in items.items()
    }
    return run.proposal, {names[i]: {names[d] for d in item.depends_on} for i, item in items.items()}


def edit(path, old, new):
    return call("edit", path=path, old=old, new=new)


def test_a_use_needs_its_import_and_not_the_other_way_round(folder):
    proposal, found = links(
        folder, {"a.py": A}, edit("a.py", "import os", "import os\nimport sys"), edit("a.py", "old(1)", "old(sys.argv)")
    )
    assert found == {"a.py:import sys": set(), "a.py:return old": {"a.py:import sys"}}
    assert proposal.needs(["h2"]) == ["h1"]
    assert proposal.needs(["h1"]) == []


def test_an_end_of_an_import_needs_the_end_of_its_uses(folder):
    files = {"a.py": "import os\n\n\n# 1\n# 2\n\nprint(os.name)\nprint(2)\n"}
    _, found = links(folder, files, edit("a.py", "import os\n", ""), edit("a.py", "print(os.name)\n", ""))
    assert found["a.py:"] in ({"a.py:"}, set())


def test_a_definition_in_another_file(folder):
    files = {"a.py": A, "b.py": "from a import old\n\n\n# x\n\nprint(old(2))\n"}
    proposal, found = links(folder, files, edit("a.py", "# a\n", "# a\ndef helper():\n    pass\n"),
                            edit("b.py", "import old", "import helper, old"), edit("b.py", "old(2)", "helper(2)"))  # fmt: skip
    assert found["b.py:from a import"] == {"a.py:def helper():"}
    assert found["b.py:print(helper(2"] == {"a.py:def helper():", "b.py:from a import"}
    assert proposal.needs(["h3"]) == ["h1", "h2"]


def test_a_definition_renamed_with_its_uses_stands_or_falls_with_them(folder):
    proposal, _ = links(folder, {"a.py": A}, call("rename_symbol", path="a.py", old="old", new="fresh"))
    (definition, use) = [hunk.id for hunk in proposal.hunks]
    assert proposal.needs([use]) == [definition]
    assert proposal.needs([definition]) == [use]


def test_what_imports_a_new_file_needs_it(folder):
    proposal, found = links(folder, {"a.py": A}, call("write", path="helpers.py", content="def helper():\n    return 1\n"),
                            edit("a.py", "import os", "import os\nfrom helpers import helper"))  # fmt: skip
    assert found["a.py:from helpers i"] == {"helpers.py:create"}
    assert proposal.needs(["h2" if proposal.hunks[0].id == "h2" else "h1"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("const helper = () => 1;", "helper()"),
        ("func helper() int { return 1 }", "helper()"),
        ("pub fn helper() -> i32 { 1 }", "helper()"),
        ("import { helper } from './h';", "helper()"),
        ("#include <helper.h>", "helper()"),
    ],
)
def test_other_languages(folder, first, second):
    files = {"a.txt": "one\n\n\n\ntwo\n"}
    proposal, _ = links(folder, files, edit("a.txt", "one", first), edit("a.txt", "two", second))
    assert proposal.needs(["h2"]) == ["h1"]


def test_independent_hunks_need_nothing(folder):
    proposal, found = links(folder, {"a.py": A}, edit("a.py", "# a", "# one"), edit("a.py", "old(1)", "old(2)"))
    assert set(map(frozenset, found.values())) == {frozenset()}


def test_names_of_one_letter_and_the_letter_before_a_string(folder):
    files = {"a.py": "x = 1\n\n\n# a\n# b\n\nprint(x)\n# c\n# d\n\nprint(2)\n"}
    _, found = links(folder, files, edit("a.py", "x = 1\n", "x = 1\n\n\ndef f(n):\n    return n\n"),
                     edit("a.py", "print(x)", "print(f(1))"), edit("a.py", "print(2)", 'print(f"{x}")'))  # fmt: skip
    assert found == {"a.py:def f(n):\n": set(), "a.py:print(f(1))": {"a.py:def f(n):\n"}, 'a.py:print(f"{x}")': set()}


def test_what_imports_a_new_package_needs_its_first_file(folder):
    _, found = links(folder, {"a.py": A}, call("write", path="helpers/__init__.py", content=""),
                     edit("a.py", "import os", "import os\nimport helpers"))  # fmt: skip
    assert found["a.py:import helpers"] == {"helpers/__init__.py:create"}


def test_what_imports_a_moved_package_needs_the_move(folder):
    files = {"a.py": "import pkg.one\n", "pkg/one.py": "ONE = 1\n"}
    proposal, _ = links(folder, files, call("move", path="pkg", to="lib"),
                        edit("a.py", "pkg.one", "lib.one"))  # fmt: skip
    (hunk,) = proposal.hunks
    (move,) = proposal.operations
    assert proposal.needs([hunk.id]) == [move.id]
    assert proposal.needs([move.id]) == [hunk.id]
