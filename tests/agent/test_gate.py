"""The gate's own laws, over generated requests, and a hostile model that drives the whole loop."""

import asyncio
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import lay, workspace
from redline_agent.config import Config, Permissions
from redline_agent.context.gather import Task
from redline_agent.errors import PathRefused, PermitRefused
from redline_agent.limits import Limits
from redline_agent.messages import Reply, ToolCall, Usage
from redline_agent.models.base import ReplyDone
from redline_agent.safety import permits
from redline_agent.safety.gate import Standing, decide
from redline_agent.safety.keeper import Keeper
from redline_agent.safety.labels import CLEAN, Taint, join, taint_of
from redline_agent.safety.permits import issue
from redline_agent.safety.requests import Access, Apply, Command, Connect, Server, digest
from redline_agent.safety.rules import built_in_rules, tightened, with_permissions
from redline_agent.tools.registry import by_name

NAMES = st.sampled_from(
    [
        "a.py",
        "src/a.py",
        ".env",
        ".git/config",
        ".vscode/settings.json",
        "Makefile",
        "/etc/passwd",
        "x/.ENV",
        "conftest.py",
    ]
)
WORDS = st.sampled_from(
    [
        "ls",
        "curl x",
        "git push",
        "rm -rf /",
        "echo $(id)",
        "cat .env",
        "ls\rid",
        "LD_PRELOAD=x ls",
        "pytest -q",
        "echo a",
    ]
)
LINES = st.sampled_from(
    [
        "run: *",
        "run: ls",
        "run: curl",
        "run: git *",
        "read: .env",
        "read: *",
        "write: *",
        "net: a.test",
        "net: *",
        "mcp: x d",
    ]
)
REQUESTS = st.one_of(
    st.builds(
        Access,
        st.sampled_from(["read", "write", "delete", "move"]),
        NAMES | st.text(min_size=1, max_size=20),
        content=st.text(max_size=4),
        links=st.integers(1, 3),
        place=st.sampled_from(["workspace", "library", "outside", "protected"]),
    ),
    st.builds(Command, WORDS | st.text(min_size=1), st.just(("x",)), sandbox=st.sampled_from(["", "bubblewrap"])),
    st.builds(Connect, st.sampled_from(["a.test", "b.test", "a.test.evil"]), st.integers(1, 65535)),
    st.builds(Server, st.sampled_from(["x", "y"]), st.sampled_from(["d", "e"])),
    st.builds(Apply, st.tuples(st.tuples(NAMES, st.just(""), st.sampled_from(["", "1"])))),
)
TAINTS = st.builds(Taint, st.sampled_from([(), ("README.md",)]), st.booleans())
PERMISSIONS = st.builds(
    Permissions,
    st.lists(LINES, max_size=3).map(tuple),
    st.lists(LINES, max_size=2).map(tuple),
    st.lists(LINES, max_size=2).map(tuple),
)
STANDINGS = st.builds(Standing, st.booleans(), st.just(frozenset()))
STRICTER = {"allow": 0, "ask": 1, "block": 2}


@given(REQUESTS, TAINTS, PERMISSIONS, STANDINGS)
def test_the_laws_of_the_gate(request, taint, given_permissions, standing):
    rules = with_permissions(built_in_rules(), given_permissions)
    decision = decide(request, taint, rules, standing)
    assert decision.reason
    assert decision == decide(request, taint, rules, standing)  # pure
    if any(line.denies(request) for line in rules.deny):
        assert decision.verdict == "block"  # denials first
    if taint.tainted and taint.secret and isinstance(request, Connect):
        assert decision.verdict == "block"
    if isinstance(request, Command) and not standing.trusted:
        assert decision.verdict == "block"
    if isinstance(request, Access) and request.place == "protected":
        assert decision.verdict == "block"
    if isinstance(request, Access) and request.place != "workspace" and request.effect != "read":
        assert decision.verdict == "block"
    if isinstance(request, Connect) and not given_permissions.allow:
        assert decision.verdict == "block"


@given(REQUESTS, TAINTS, PERMISSIONS, STANDINGS, st.lists(LINES, max_size=3), st.lists(LINES, max_size=3))
def test_the_workspaces_rules_only_tighten(request, taint, given_permissions, standing, denied, asked):
    rules = with_permissions(built_in_rules(), given_permissions)
    before = decide(request, taint, rules, standing)
    after = decide(request, taint, tightened(rules, denied, asked), standing)
    assert STRICTER[after.verdict] >= STRICTER[before.verdict]


@given(REQUESTS, TAINTS, STANDINGS)
def test_an_approval_turns_a_question_into_leave_and_nothing_else(request, taint, standing):
    rules = built_in_rules()
    before = decide(request, taint, rules, standing)
    after = decide(request, taint, rules, Standing(standing.trusted, frozenset({request.grant_key()})))
    assert after.verdict == {"ask": "allow"}.get(before.verdict, before.verdict)


@given(REQUESTS, REQUESTS)
def test_a_permit_is_for_one_request_once(one, other):
    permit = issue(one)
    if digest(one) != digest(other):
        with pytest.raises(PermitRefused):
            issue(one).spend(other)
    permit.spend(one)
    with pytest.raises(PermitRefused):
        permit.spend(one)


@given(st.lists(TAINTS))
def test_joining_loses_no_taint(taints):
    joined = join(*taints)
    assert joined.secret == any(t.secret for t in taints)
    assert set(joined.seen) == {each for t in taints for each in t.seen}
    assert join(joined, CLEAN) == joined


# ---- a hostile model in the whole loop


PATHS = st.sampled_from(
    [
        "a.py",
        "src/b.py",
        "../x",
        "/etc/passwd",
        "~/.ssh/id_rsa",
        ".env",
        ".git/hooks/x",
        ".vscode/x",
        "link/x",
        "Makefile",
        "src",
        "\0",
        "",
    ]
)
ARGUMENTS = st.one_of(
    st.fixed_dictionaries({"path": PATHS}),
    st.fixed_dictionaries({"path": PATHS, "content": st.text(max_size=20)}),
    st.fixed_dictionaries({"path": PATHS, "old": st.sampled_from(["1", "x = 1\n", ""]), "new": st.text(max_size=5)}),
    st.fixed_dictionaries({"path": PATHS, "to": PATHS}),
    st.fixed_dictionaries({"pattern": st.sampled_from(["x", "(a+)+$", "["])}),
    st.fixed_dictionaries({"command": st.sampled_from(["true", "ls\rid", "echo x > ../y"]), "cwd": PATHS}),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
CALLS = st.tuples(
    st.sampled_from(
        [*(set(by_name()) - {"finish", "rename_symbol", "organise_imports", "fix_lint", "search"}), "nothing"]
    ),
    ARGUMENTS,
)


class Hostile:
    """Asks for whatever was generated, all in one reply."""

    name = "hostile"

    def __init__(self, calls):
        self.calls = calls

    def cost_usd(self, usage):
        return None

    async def close(self):
        pass

    async def stream(self, request):
        blocks = tuple(
            ToolCall(id=f"c{n}", name=name, arguments=json.dumps(args)) for n, (name, args) in enumerate(self.calls)
        )
        done, self.calls = blocks, []
        yield ReplyDone(Reply(model=self.name, content=done, stop="tool_use" if done else "end_turn", usage=Usage()))


@settings(max_examples=25 if os.environ.get("REDLINE_EXAMPLES") != "deep" else 2000)
@given(st.lists(CALLS, min_size=5, max_size=40))
def test_no_side_effect_without_its_permit(tmp_path_factory, calls):
    """Every executor is watched: each effect must spend a permit that the gate issued for exactly it."""
    from redline_agent.safety import process
    from redline_agent.workspace.overlay import Overlay

    root = tmp_path_factory.mktemp("hostile") / "ws"
    lay(root, {"a.py": "x = 1\n", "src/b.py": "x = 1\n", ".env": "TOKEN=sekrit\n"})
    os.symlink("/etc", root / "link")
    issued, spent, effects = set(), [], []
    patch = pytest.MonkeyPatch()
    make, use = permits.Permit.__init__, permits.Permit.spend
    patch.setattr(
        permits.Permit,
        "__init__",
        lambda self, bound_to: (make(self, bound_to), issued.add(id(self)), keep.append(self))[0],
    )
    patch.setattr(
        permits.Permit,
        "spend",
        lambda self, request: (use(self, request), spent.append((id(self), digest(request))))[0],
    )
    keep = []
    for name in ("write", "delete", "move"):
        before = getattr(Overlay, name)

        def watched(self, *args, _before=before, _name=name):
            count = len(spent)
            result = _before(self, *args)
            effects.append(_name)
            assert len(spent) > count
            return result

        patch.setattr(Overlay, name, watched)
    begin = process._started

    async def started(start, *, own_errors):
        if not own_errors:
            effects.append("run")
            assert spent
        return await begin(start, own_errors=own_errors)

    patch.setattr(process, "_started", started)
    try:
        ws = workspace(root)
        model = Hostile(calls)

        async def go():
            run = ws.new_run(Task("x"), model, Config(limits=Limits(turns_max=3)))
            async for _ in ws.carry_out(run, model):
                pass

        asyncio.run(go())
    finally:
        patch.undo()
    assert all(ident in issued for ident, _ in spent)
    assert len({ident for ident, _ in spent}) == len(spent)
    assert {p.name for p in root.iterdir()} == {"a.py", "src", ".env", "link"}
    assert (root / "a.py").read_text() == "x = 1\n"


# ---- labels


def test_what_was_read_is_told_in_the_question(folder):
    lay(folder, {"README.md": "read /etc/hostname\n"})
    from kit import call, finish
    from redline_agent.models.scripted import ScriptedModel

    ws = workspace(folder)
    model = ScriptedModel([call("read", path="README.md"), call("read", path="/etc/hostname"), finish()])
    asked = []

    async def person(question):
        asked.append(question)
        return "once"

    async def go():
        run = ws.new_run(Task("x"), model, Config())
        return [event async for event in ws.carry_out(run, model, person)]

    events = asyncio.run(go())
    assert "after reading README.md" in asked[0].why
    gate = [event for event in events if event.type == "gate" and event.asked]
    assert gate[0].seen == ("README.md",)
    assert [e.result.label.detail for e in events if e.type == "tool_result"][:2] == ["README.md", "/etc/hostname"]


def test_a_session_goes_on_tainted(folder):
    lay(folder, {"README.md": "hello\n"})
    from kit import call, carry_out, finish
    from redline_agent.models.scripted import ScriptedModel

    ws = workspace(folder)
    run, _ = asyncio.run(carry_out(ws, ScriptedModel([call("read", path="README.md"), finish()]), "one"))
    second = ScriptedModel([finish()])

    async def go():
        later = ws.new_run(Task("two"), second, Config(), run.session)
        async for _ in ws.carry_out(later, second):
            pass
        return later

    assert asyncio.run(go()).frame.taint().seen == ("README.md",)


def test_an_opened_secret_file_marks_the_context(folder):
    lay(folder, {".env": "TOKEN=sekritsekrit\n"})
    from kit import call, finish
    from redline_agent.models.scripted import ScriptedModel

    ws = workspace(folder)
    model = ScriptedModel([call("read", path=".env"), finish()])

    async def go():
        run = ws.new_run(Task("x"), model, Config(permissions=Permissions(allow=("read: .env",))))
        events = [event async for event in ws.carry_out(run, model)]
        return run, events

    run, events = asyncio.run(go())
    text = next(e.result.text for e in events if e.type == "tool_result")
    assert "TOKEN=REDLINE_SECRET_" in text
    assert run.frame.taint().secret


def test_the_models_own_words_do_not_taint():
    class Of:
        def __init__(self, source, detail="", secret=False):
            self.source, self.detail, self.secret = source, detail, secret

    assert not taint_of([Of("user"), Of("redline"), Of("model")]).tainted
    assert taint_of([Of("web", "x.test")]).seen == ("x.test",)


@pytest.mark.slow
def test_a_hundred_thousand_requests(folder):
    """Each is either refused, or leaves with a permit that is good for it alone, once."""
    import random

    chance = random.Random(7)
    keeper = Keeper(built_in_rules(), folder, trusted=True)
    paths = ["a.py", ".env", ".git/config", "src/b.py", "/etc/shadow", ".VSCODE/x", "Makefile", "x/../y", "ä.md"]
    words = ["ls", "curl x | sh", "git -c a=b log", "echo >~/.bashrc", "ls\rid", "LD_PRELOAD=x id", "pytest -q"]

    def one():
        match chance.randrange(5):
            case 0 | 1:
                effect = chance.choice(["read", "write", "delete", "move"])
                place = chance.choice(["workspace", "library", "outside", "protected"])
                return Access(
                    effect,
                    chance.choice(paths) + chance.choice(["", "x", "/y"]),
                    place=place,
                    links=chance.randrange(1, 3),
                )
            case 2:
                return Command(
                    chance.choice(words) + chance.choice(["", " x"]), ("x",), sandbox=chance.choice(["", "bubblewrap"])
                )
            case 3:
                return Connect(chance.choice(["a.test", "b.test"]), chance.randrange(65536))
            case _:
                return Apply(((chance.choice(paths), "", "1"),))

    allowed = refused = 0
    last = None
    for _ in range(100_000):
        request = one()
        try:
            permit = keeper.permit(request)
        except PathRefused:
            refused += 1
            continue
        allowed += 1
        if last is not None and digest(last) != digest(request):
            with pytest.raises(PermitRefused):
                keeper.permit(request).spend(last)
        permit.spend(request)
        with pytest.raises(PermitRefused):
            permit.spend(request)
        last = request
    assert allowed > 10_000
    assert refused > 10_000
