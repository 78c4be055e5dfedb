"""The rules of the house."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = [ROOT / "agent/redline_agent", ROOT / "server/redline_server"]
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60


def names(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=names)
def test_files_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < FUNCTION_LINES_MAX or node.name in ("register", "add_commands"), (
                node.name
            )


def test_no_utils():
    assert [names(p) for p in SOURCES if re.search(r"util|helpers|misc|common", p.stem)] == []


INSIDE = [f"agent/redline_agent/safety/sandbox/{name}.py" for name in ("launcher", "net_inside")]
"""Run by `process` as processes of their own: they become the command."""


def test_only_safety_starts_processes():
    starting = re.compile(
        r"create_subprocess|subprocess\.(run|Popen|call)|os\.(system|popen|exec|spawn|fork)|\.start_io\("
    )
    found = {names(path) for path in SOURCES if starting.search(path.read_text())}
    assert found == {"agent/redline_agent/safety/process.py", *INSIDE, "server/redline_server/tour.py"}


def test_only_the_issuer_makes_permits():
    making = re.compile(r"\bPermit\(|permits import .*\bissue\b")
    found = {names(path) for path in SOURCES if making.search(path.read_text())}
    assert found == {
        "agent/redline_agent/safety/permits.py",
        "agent/redline_agent/safety/keeper.py",
        "agent/redline_agent/safety/sandbox/layers.py",  # the probe: Redline's own words
    }


def test_only_the_resolver_and_the_writer_touch_the_users_files():
    """Tools know the overlay alone."""
    for path in (ROOT / "agent/redline_agent/tools").glob("*.py"):
        assert not re.search(
            r"\bopen\(|\.write_(text|bytes)|\.read_(text|bytes)\(|unlink|os\.",
            path.read_text().replace('read_text("utf-8").strip()', ""),
        ), path


def test_every_tool_has_its_text():
    shared = {"base", "narrow", "registry", "rope_files", "ruff_files", "__init__"}
    folder = ROOT / "agent/redline_agent/tools"
    assert {p.stem for p in folder.glob("*.md")} == {p.stem for p in folder.glob("*.py")} - shared


def test_importing_the_server_imports_nothing_heavy():
    code = "import sys, redline_server.app; print([m for m in ('pydantic', 'anthropic', 'tiktoken', 'rope', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_run_with_the_built_in_engine_imports_no_sdk():
    code = "import sys, redline_server.runs, redline_server.commands, redline_agent.models.builtin; print('anthropic' in sys.modules, 'tiktoken' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False False", done.stderr


def test_commands_are_advertised_as_they_are_defined():
    from redline_server.commands import NAMES
    from redline_server.wiring import COMMANDS

    assert COMMANDS == NAMES


def test_the_top_level_has_only_what_belongs_there():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    top = {line.split("/", 1)[0] for line in tracked.stdout.splitlines()}
    assert top == {
        ".ci", ".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
        "SECURITY.md", "agent", "docs", "editors", "pyproject.toml", "server", "tests",
    }  # fmt: skip


def test_no_address_of_a_registry_and_no_machine_path_is_committed():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    bad = re.compile(
        rb"registry\.npmjs\.org|pypi\.org/simple|files\.pythonhosted|deb\.debian\.org|/root/\.pyenv|/home/\w+/src"
    )
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and name != "tests/test_house.py":
            assert not bad.search(path.read_bytes()), name


def test_versions_agree():
    import json

    from redline_agent.version import VERSION as version

    assert json.loads((ROOT / "editors/vscode/package.json").read_text())["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_the_wheel_holds_exactly_what_is_listed(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    held = sorted(
        re.sub(r"redline_ls-[\d.]+\.dist-info", "redline_ls.dist-info", n) for n in zipfile.ZipFile(wheel).namelist()
    )
    expected = (ROOT / "tests/wheel_files.txt").read_text().splitlines()
    assert held == expected


# ---- what is released, and what it is made of


def test_every_dependency_says_why():
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [\n")[1].split("\n]")[0].splitlines()
    assert len(lines) > 10
    assert [line for line in lines if "#" not in line] == []


def test_npm_packages_are_pinned_whole_and_those_with_install_scripts_are_known():
    import json

    scripts = {}
    for name in ("editors/vscode", "tests/e2e/vscode"):
        packages = json.loads((ROOT / name / "package-lock.json").read_text())["packages"]
        loose = [key for key, entry in packages.items() if key and not entry.get("link") and "integrity" not in entry]
        assert loose == []
        scripts[name] = {
            key.removeprefix("node_modules/") for key, entry in packages.items() if entry.get("hasInstallScript")
        }
    assert scripts["editors/vscode"] == {"@vscode/vsce-sign", "esbuild"}
    assert scripts["tests/e2e/vscode"] <= {"argon2", "code-server", "node"}


def test_no_shipped_file_is_a_source_map_a_key_or_a_cache():
    held = (ROOT / "tests/wheel_files.txt").read_text().splitlines()
    assert not [n for n in held if re.search(r"\.map$|(^|/)\.|__pycache__|\.pem$|\.key$|(^|/)tests?/|node_modules", n)]


def test_every_rule_has_its_row():
    """Each built-in rule and badge is spoken of by a case."""
    import tomllib

    rules = tomllib.loads((ROOT / "agent/redline_agent/safety/rules.toml").read_text())
    cases = (ROOT / "tests/cases/paths.toml").read_text() + (ROOT / "tests/cases/adversarial.toml").read_text()
    assert {rule["id"] for rule in rules["rule"]} == {
        "secret-files",
        "control-files",
        "version-control-internals",
        "files",
    }
    for words in (".env", ".git/hooks", ".git/config", "src/a.py", "Makefile"):
        assert words in cases
