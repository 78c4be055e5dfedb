"""Extract, inline and move: by tool calls and by the built-in engine, with what cannot be done said."""

import pytest
from kit import ask_builtin, call, disk, finish, lay, play, proposed_text, results, workspace
from redline_agent.deciding import accept

A = """def total(prices, tax):
    base = 0
    for price in prices:
        base += price
    return base * (1 + tax)


def label(x):
    return str(x)


def show(x):
    return label(x) + "!"
"""
B = "from a import label\n\nprint(label(3))\n"
FILES = {"a.py": A, "b.py": B, "c.py": '"""Helpers."""\n'}


def took(folder, run):
    assert run.proposal is not None, run.answer
    accept(workspace(folder), run.proposal, [item.id for item in run.proposal.items])
    files = disk(folder)
    for path, text in files.items():
        compile(text, path, "exec")
    return files


@pytest.mark.parametrize(
    "words", ["extract lines 2 to 4 of a.py to sum_up", "extract lines 2-4 in a.py into a function sum_up"]
)
def test_lines_become_a_function(folder, words):
    lay(folder, FILES)
    text = took(folder, ask_builtin(folder, words))["a.py"]
    scope = {}
    exec(text, scope)
    assert scope["total"]([1, 2], 1) == 6
    assert "base = sum_up(prices)" in text


def test_the_selection_becomes_a_function(folder):
    lay(folder, FILES)
    run = ask_builtin(folder, "extract the selection to sum_up", file="a.py", lines=(2, 4))
    assert "def sum_up(prices):" in proposed_text(run, "a.py")


def test_an_expression_becomes_a_variable(folder):
    lay(folder, FILES)
    run = ask_builtin(folder, "extract `1 + tax` on line 5 of a.py to factor")
    assert "    factor = 1 + tax\n    return base * (factor)\n" in proposed_text(run, "a.py")


def test_a_function_is_inlined_everywhere(folder):
    lay(folder, FILES)
    files = took(folder, ask_builtin(folder, "inline label in a.py"))
    assert "label" not in files["a.py"] + files["b.py"]
    assert "print(str(3))" in files["b.py"]


def test_a_function_moves_with_its_imports(folder):
    lay(folder, FILES)
    files = took(folder, ask_builtin(folder, "move label to c.py"))
    assert "def label(x):" in files["c.py"]
    assert "def label" not in files["a.py"]
    assert "from c import label" in files["b.py"] or "import c" in files["b.py"]


def test_line_ends_stay(folder):
    lay(folder, {"a.py": A.replace("\n", "\r\n").encode()})
    run = ask_builtin(folder, "extract lines 2 to 4 of a.py to sum_up")
    text = proposed_text(run, "a.py")
    assert text.count("\r\n") == text.count("\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("extract lines 2 to 4 of a.py to total", "already"),
        ("extract lines 90 to 99 of a.py to x1", "13 lines"),
        ("extract to x1", "Say which lines"),
        ("inline nothing_like_it", "Nothing here defines"),
        ("move label in a.py to none.py", "Create it first"),
        ("extract lines 3 to 3 of a.py to loop", "rope could not extract"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(folder, words, why):
    lay(folder, FILES)
    run = ask_builtin(folder, words)
    assert (run.state, run.proposal) == ("refused", None)
    assert why in run.answer


def test_they_are_tools_of_any_model(folder):
    lay(folder, FILES)
    script = [
        call("extract", path="a.py", start=2, end=4, name="sum_up"),
        call("move_symbol", path="a.py", name="label", to="c.py"),
        call("inline", path="a.txt", name="x"),
        finish(),
    ]
    run, events, _ = play(folder, script)
    assert [error for error, _ in results(events)] == [False, False, True, False]
    origins = {hunk.origin.tool for hunk in run.proposal.hunks}
    assert origins == {"extract", "move_symbol"}
    took(folder, run)
