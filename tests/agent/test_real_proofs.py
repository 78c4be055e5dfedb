"""Proofs on real packages with test suites: a change that breaks a test is caught, one that does not is passed."""

import asyncio
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from kit import call, carry_out, finish, workspace
from redline_agent.config import Config, merge
from redline_agent.models.scripted import ScriptedModel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox here is Linux's"),
    pytest.mark.timeout(600),
]

PACKAGES = {
    # the file, what stands there, what breaks a test, what breaks none, and the tests ("" for the affected ones)
    "toolz": ("toolz/itertoolz.py", "    return next(iter(seq))\n", "    return None\n", "    return next(iter(seq))  # one\n", ""),
    "mpmath": ("mpmath/libmp/libmpf.py", "def mpf_neg(s, prec=None, rnd=round_fast):\n", "def mpf_neg(s, prec=None, rnd=round_fast):\n    return s\n",
               "def mpf_neg(s, prec=None, rnd=round_fast):  # one\n", "{python} -m pytest -q -p no:cacheprovider mpmath/tests/test_basic_ops.py"),
    "networkx": ("networkx/utils/misc.py", "def flatten(obj, result=None):\n", "def flatten(obj, result=None):\n    return ()\n",
                 "def flatten(obj, result=None):  # one\n", "{python} -m pytest -q -p no:cacheprovider networkx/utils/tests/test_misc.py"),
}  # fmt: skip


def proof(root, path, old, new, config):
    ws = workspace(root)
    ws.memory.trust(ws.resolver.root)
    model = ScriptedModel([call("edit", path=path, old=old, new=new), finish()])
    run, _ = asyncio.run(carry_out(ws, model, "change it", config=config))
    (item,) = [item for item in run.proposal.proof if item.check == "tests"]
    return item


@pytest.mark.parametrize("name", PACKAGES)
def test_a_change_that_breaks_a_test_is_caught_and_another_is_passed(name, tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    path, old, bad, good, command = PACKAGES[name]
    root = tmp_path / "ws"
    shutil.copytree(Path(find_spec(name).origin).parent, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (root / path).read_text()
    assert text.count(old) == 1
    wishes = {"seconds": 240, "servers": "off", "tests": command.replace("{python}", sys.executable) or "affected"}
    config = merge(Config(validate="never", plan="never"), {"proof": wishes}, "test")
    caught = proof(root, path, old, bad, config)
    assert (caught.state, caught.ok) == ("current", False), caught
    passed = proof(root, path, old, good, config)
    assert (passed.state, passed.ok) == ("current", True), passed
    assert (root / path).read_text() == text
    print(f"{name}: caught: {caught.detail.splitlines()[0]}; passed: {passed.detail.splitlines()[0]}")
