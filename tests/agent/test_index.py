"""The index: symbols, ranking, and its process over a real folder, with unsaved texts and without secrets."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import finish, lay, play, workspace
from redline_agent.context.gather import Task, gather
from redline_agent.context.index import Index
from redline_agent.models.base import Capabilities
from redline_agent.retrieval.corpus import Corpus, read
from redline_agent.retrieval.rank import rank
from redline_agent.retrieval.terms import parts, stem
from redline_agent.safety.keeper import Keeper
from redline_agent.semantics.symbols import enclosing, replaced, symbols
from redline_agent.workspace.overlay import Overlay

FILES = {
    "shop/prices.py": "class Price:\n    def discounted(self, rate):\n        return self.amount * (1 - rate)\n",
    "shop/cart.py": "from shop.prices import Price\n\n\ndef checkout(cart):\n    return sum(p.discounted(0) for p in cart)\n",
    "tests/test_prices.py": "from shop.prices import Price\n\n\ndef test_price():\n    assert Price\n",
    "docs/guide.md": "How to install the shop.\n",
    ".env": "DISCOUNTED_KEY=abc\n",
    ".gitignore": "build/\n",
    "build/out.py": "def discounted(): ...\n",
}


def corpus_of(files):
    corpus = Corpus()
    for path, text in files.items():
        corpus.put(read(path, text))
    return corpus


def test_identifiers_are_split_and_words_cut_to_their_stems():
    assert {"http", "parsehttpheaders"} <= set(parts("parseHTTPHeaders"))
    assert stem("parsing") == stem("parsed") == stem("parses")
    assert "load" in parts("load_config")


def test_a_file_is_found_by_its_symbols_and_its_test_comes_with_it():
    found = [each.file.path for each in rank(corpus_of(FILES), "the discounted price is wrong", limit=5)]
    assert found[0] == "shop/prices.py"
    assert "tests/test_prices.py" in found[:3]


def test_where_the_user_stands_comes_first():
    found = rank(corpus_of(FILES), "discounted", limit=5, here=["docs/guide.md"])
    assert found[0].file.path == "docs/guide.md"
    assert found[0].why == "you are there"


@given(st.lists(st.tuples(st.sampled_from(sorted(FILES)), st.booleans()), max_size=30))
def test_a_corpus_that_changes_is_the_same_as_a_new_one(changes):
    corpus = corpus_of(FILES)
    kept = dict(FILES)
    for path, put in changes:
        if put:
            kept[path] = FILES[path] + "extra_name = 1\n"
            corpus.put(read(path, kept[path]))
        else:
            kept.pop(path, None)
            corpus.drop(path)
    new = corpus_of(kept)
    assert (corpus.having, corpus.totals, corpus.definers) == (new.having, new.totals, new.definers)
    assert [(e.file.path, e.score) for e in rank(corpus, "discounted price extra", limit=9)] == [
        (e.file.path, e.score) for e in rank(new, "discounted price extra", limit=9)
    ]


def ask(folder, question):
    async def go():
        index = Index(folder)
        try:
            return await question(index, Overlay(workspace(folder).resolver))
        finally:
            await index.close()

    return asyncio.run(go())


def keeper_of(folder):
    ws = workspace(folder)
    return Keeper(ws.rules, ws.resolver.root)


def test_the_process_reads_what_may_be_read_and_nothing_else(folder):
    lay(folder, FILES)

    async def question(index, overlay):
        found = await index.find(Task("discounted key"), overlay, keeper_of(folder), wait_s=20)
        state = await index.ask("sync", overlay)
        places = await index.over(overlay).definitions("Price.discounted")
        return found, state, places

    found, state, places = ask(folder, question)
    assert {each.path for each in found} == {"shop/prices.py", "shop/cart.py", "tests/test_prices.py"}
    assert state["files"] == 5
    assert [(p["path"], p["line"], p["kind"]) for p in places] == [("shop/prices.py", 2, "method")]


def test_a_file_with_another_name_outside_is_not_found(folder, tmp_path):
    lay(folder, FILES)
    outside = tmp_path / "outside.py"
    outside.write_text("def launch_code_seven(): ...\n")
    (folder / "linked.py").hardlink_to(outside)

    async def question(index, overlay):
        found = await index.find(Task("launch code seven"), overlay, keeper_of(folder), wait_s=20)
        return [each.path for each in found], await index.over(overlay).definitions("launch_code_seven")

    paths, places = ask(folder, question)
    assert "linked.py" not in paths
    assert places == []


def test_it_sees_unsaved_and_edited_texts_and_only_what_changed_is_read_again(folder, monkeypatch):
    lay(folder, FILES)

    class Buffers:
        def open_text(self, path):
            return ("def brand_new_thing(): ...\n", 1) if path == "shop/cart.py" else None

        def open_paths(self):
            return ["shop/cart.py"]

    async def question(index, overlay):
        await index.ask("sync", overlay)
        overlay.buffers = Buffers()
        first = await index.ask("definitions", overlay, name="brand_new_thing", under="")
        again = await index.ask("sync", overlay)
        overlay.buffers = type(overlay.buffers)()
        return first["places"], again["read"]

    places, read_again = ask(folder, question)
    assert [p["path"] for p in places] == ["shop/cart.py"]
    assert read_again == 0


def test_a_dead_process_is_started_again(folder):
    lay(folder, FILES)

    async def question(index, overlay):
        await index.ask("sync", overlay)
        await index._helper.stop()
        with pytest.raises(Exception, match="does not answer"):
            await index.ask("sync", overlay)
        return (await index.ask("sync", overlay))["files"]

    assert ask(folder, question) == 5


def test_an_index_that_is_not_ready_does_not_hold_the_run_up(folder):
    lay(folder, FILES)

    async def question(index, overlay):
        began = time.monotonic()
        found = await index.find(Task("price"), overlay, keeper_of(folder), wait_s=0.0)
        return found, time.monotonic() - began

    found, seconds = ask(folder, question)
    assert found == []
    assert seconds < 2


def gathered(folder, task, **can):
    ws = workspace(folder)

    async def go():
        index = Index(folder)
        try:
            return await gather(task, Overlay(ws.resolver), keeper_of(folder), ws.masks, index=index,
                                capabilities=Capabilities(**can))  # fmt: skip
        finally:
            await index.close()

    return asyncio.run(go())


def test_a_run_is_given_the_map(folder):
    lay(folder, FILES)
    blocks = gathered(folder, Task("the discounted price is wrong"))
    shown = next(b.text for b in blocks if b.label.detail == "the map")
    assert "shop/prices.py\n  1: class Price:\n  2: def discounted(self, rate):" in shown
    assert "DISCOUNTED_KEY" not in str(blocks)


def test_a_small_model_is_given_the_code_itself_and_only_the_symbols_of_a_long_file(folder):
    long = "".join(f"def helper_{n}():\n    return {n}\n\n\n" for n in range(200)) + FILES["shop/prices.py"]
    lay(folder, {**FILES, "shop/prices.py": long})
    blocks = gathered(folder, Task("make discounted refuse a rate above 1"), profile="small", edits="symbol")
    shown = next(b.text for b in blocks if b.label.detail == "shop/prices.py")
    assert "def discounted(self, rate):" in shown
    assert "helper_100" not in shown
    assert sum(len(b.text) for b in blocks) < 7_000


def test_the_symbol_around_the_selection_is_shown(folder):
    lay(folder, {"a.py": "x = 1\n\n\ndef f(a):\n    b = a\n    c = b\n    d = c\n    e = d\n    g = e\n    return g\n"})
    _, _, model = play(folder, [finish()], Task("simplify", file="a.py", lines=(9, 9)))
    shown = next(b.text for b in model.requests[0].messages[0].content if b.label.detail == "a.py")
    assert "4\tdef f(a):" in shown


CODE = {
    "a.py": (
        "class A:\n    @property\n    def m(self):\n        return 1\n\n\ndef f():\n    pass\n",
        ["A", "A.m", "f"],
    ),
    "a.ts": ("export class A {\n  m() {}\n}\nconst f = () => 1;\n", ["A", "A.m", "f"]),
    "a.tsx": ("function App() { return <p/>; }\n", ["App"]),
    "a.js": ("function f() {}\nclass A { m() {} }\n", ["f", "A", "A.m"]),
    "a.go": ("package x\n\ntype T struct{}\n\nfunc (t *T) M() {}\n", ["T", "M"]),
    "a.rs": ("struct A;\nimpl A {\n    fn m(&self) {}\n}\n", ["A", "A", "A.m"]),
    "a.java": ("class A {\n  void m() {}\n}\n", ["A", "A.m"]),
    "a.c": ("struct S { int x; };\nint f(int a) { return a; }\n", ["S", "f"]),
    "a.cpp": ("class A { void m() {} };\n", ["A", "A.m"]),
    "a.rb": ("class A\n  def m\n  end\nend\n", ["A", "A.m"]),
    "a.txt": ("nothing\n", []),
}


@pytest.mark.parametrize("path", CODE)
def test_symbols_of_each_language(path):
    text, names = CODE[path]
    assert [each.full for each in symbols(text, path)] == names


def test_a_symbol_is_replaced_with_its_decorators_indented_as_it_was():
    text = CODE["a.py"][0]
    method = next(each for each in symbols(text, "a.py") if each.name == "m")
    assert (method.line, method.end) == (2, 4)
    new = replaced(text, method, "@property\ndef m(self):\n    return 2\n")
    assert new == text.replace("return 1", "return 2")
    crlf = text.replace("\n", "\r\n")
    method = next(each for each in symbols(crlf, "a.py") if each.name == "m")
    assert replaced(crlf, method, "    @property\n    def m(self):\n        return 2") == crlf.replace(
        "return 1", "return 2"
    )


@given(st.text(max_size=300))
def test_any_text_has_symbols_or_none(text):
    for path in ("a.py", "a.ts", "a.c"):
        found = symbols(text, path)
        assert all(1 <= each.line <= each.end for each in found)
        assert enclosing(text, path, 1) is None or enclosing(text, path, 1) in found
