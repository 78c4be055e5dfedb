"""The built-in engine on the source of real packages: afterwards each still imports and its own tests pass as before."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from kit import ask_builtin, workspace
from redline_agent.deciding import accept

pytestmark = pytest.mark.slow

PACKAGES = {
    "toolz": (6_000, "rename raises to does_raise in toolz/utils.py", "toolz"),
    "mpmath": (50_000, "rename mpf_perturb to mpf_nudge in mpmath/libmp/libmpf.py", "mpmath/tests/test_basic_ops.py mpmath/tests/test_bitwise.py mpmath/tests/test_special.py mpmath/tests/test_calculus.py"),
    "networkx": (150_000, "rename pairwise to consecutive_pairs in networkx/utils/misc.py", "networkx/utils networkx/classes networkx/generators networkx/algorithms/tests"),
}  # fmt: skip
CLEAN_UPS = ("remove unused", "modernise syntax", "organise imports")


def own_tests(root, where):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "2", "-p", "no:cacheprovider", "-W", "ignore", "--import-mode=prepend",
         "--rootdir", str(root), "-c", "/dev/null", *where.split()],
        cwd=root, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "HOME": str(root)},
    )  # fmt: skip
    tail = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-500:]
    return (
        done.returncode,
        {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", tail)},
        done.stdout[-1500:],
    )


def every_module_compiles(root):
    return (
        subprocess.run([sys.executable, "-m", "compileall", "-q", "-f", str(root)], capture_output=True).returncode == 0
    )


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", PACKAGES)
def test_a_real_package_works_as_before(name, tmp_path):
    lines_min, rename, where = PACKAGES[name]
    root = tmp_path / "ws"
    source = Path(find_spec(name).origin).parent
    shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    lines = sum(path.read_bytes().count(b"\n") for path in root.rglob("*.py"))
    assert lines >= lines_min
    before = own_tests(root, where)
    assert before[0] == 0, before[2]
    report = []
    for instruction in (rename, *CLEAN_UPS):
        run = ask_builtin(root, instruction)
        assert run.state in ("proposed", "answered"), run.answer
        report.append(f"{instruction}: {run.answer.splitlines()[0]}")
        if run.proposal:
            assert not [item for item in run.proposal.proof if item.ok is False], run.proposal.proof
            accept(workspace(root), run.proposal, [item.id for item in run.proposal.items])
            assert {item.state for item in run.proposal.items} == {"accepted"}
    assert every_module_compiles(root)
    imported = subprocess.run(
        [sys.executable, "-c", f"import {name}"], env={"PYTHONPATH": str(root)}, capture_output=True
    )
    assert imported.returncode == 0, imported.stderr
    after = own_tests(root, where)
    assert (after[0], after[1].get("passed")) == (0, before[1].get("passed")), after[2]
    print(name, f"{lines:,} lines", after[1], *report, sep="\n  ")
