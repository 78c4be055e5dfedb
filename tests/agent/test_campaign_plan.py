"""What a campaign's file and options mean, and what all its workers together may spend."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redline_agent.errors import UsageError
from redline_agent.jobs.budget import Budget, Leave
from redline_agent.jobs.plan import Plan, checked, chosen, targets

FILES = ["a.py", "src/pkg/__init__.py", "src/pkg/x.py", "src/pkg/sub/y.py", "web/package.json", "web/a.ts", "docs/a.md"]


@pytest.mark.parametrize(
    ("said", "paths"),
    [
        ({}, [(path,) for path in sorted(FILES)]),
        ({"over": ["src/**/*.py"]}, [("src/pkg/__init__.py",), ("src/pkg/sub/y.py",), ("src/pkg/x.py",)]),
        ({"over": ["*.py"], "exclude": ["src/"]}, [("a.py",)]),
        ({"split": "repository"}, [()]),
        ({"split": "repository", "over": ["*.rs"]}, []),
        ({"split": "package", "over": ["*.py", "*.ts"]}, [(".",), ("src/pkg",), ("web",)]),
        (
            {"split": "files:2", "over": ["*.py"]},
            [("a.py", "src/pkg/__init__.py"), ("src/pkg/sub/y.py", "src/pkg/x.py")],
        ),
    ],
)
def test_targets_are_what_the_plan_says(said, paths):
    assert [each.paths for each in targets(Plan(task="x", **said), "/r", "c", FILES)] == paths


def test_a_target_is_known_by_commit_paths_and_task():
    def keys(commit="c", **said):
        return {each.key for each in targets(Plan(**{"task": "x", **said}), "/r", commit, FILES)}

    assert len(keys()) == len(FILES)
    assert keys() == keys(over=["*"], output="patches", limits={"cost_usd_max": 9.0})
    for other in (keys("d"), keys(task="y"), keys(model="builtin"), keys(tests="all")):
        assert not keys() & other


@pytest.mark.parametrize(
    "said",
    [
        {"task": "  "}, {"task": "x", "split": "files:0"}, {"task": "x", "over": []}, {"task": "x", "name": "A B"},
        {"task": "x", "limits": {"cost_usd_max": 0.0}}, {"task": "x", "limits": {"dollars": 1.0}}, {"task": "x", "what": 1},
        {"task": "x", "proof": "maybe"}, {},
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused_with_what_is_wrong(said):
    with pytest.raises(UsageError, match="campaigns.md"):
        checked(said, "it")


@given(st.lists(st.sampled_from(["*.py", "/a", "src/", "!x.py", "**/y.py", "[", "a b", ""]), min_size=1, max_size=4))
def test_globs_never_fail(globs):
    assert set(chosen(FILES, Plan(task="x", over=globs))) <= set(FILES)


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["ask", "paid", "gone"]), st.floats(0, 0.5)), max_size=60))
def test_whatever_workers_do_the_money_is_never_passed(steps):
    budget = Budget(1.0, 0)
    waiting = {}
    for who, what, usd in steps:
        if what == "ask" and who not in waiting:
            leave = budget.ask(who, usd)
            if not leave.again and not leave.refused:
                waiting[who] = usd
        elif what == "paid" and who in waiting:
            budget.paid(who, min(usd, waiting.pop(who)))
        elif what == "gone" and who in waiting:
            assert budget.gone(who) == waiting.pop(who)
        assert budget.spent_usd + sum(waiting.values()) <= 1.0 + 1e-9


def test_requests_are_spread_over_the_minute():
    now = [0.0]
    budget = Budget(1.0, 60, clock=lambda: now[0])
    assert [budget.ask(who, 0.0).wait_s for who in range(4)] == [0.0, 1.0, 2.0, 3.0]
    now[0] = 10.0
    assert [budget.ask(9, 0.0).wait_s for _ in range(2)] == [0.0, 1.0]


def test_one_worker_with_several_requests_holds_what_all_may_cost():
    budget = Budget(1.0, 0)
    assert budget.ask(1, 0.6) == Leave()
    assert budget.ask(1, 0.6).again
    assert budget.ask(1, 0.3) == Leave()
    assert budget.paid(1, None) == 0.3  # the smaller one goes first: too much is held, never too little
    assert budget.gone(1) == 0.6
    assert budget.spent_usd == pytest.approx(0.9)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="no amount"):
            budget.ask(2, wrong)
