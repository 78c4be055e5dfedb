"""A real Helix in a terminal of its own, by configuration alone. Run where `hx` is installed (or HELIX_BIN names it)."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from editors import A_PY, B_PY

pytestmark = pytest.mark.editor
CONFIG = """
[language-server.redline]
command = "{python}"
args = ["-m", "redline_server", "serve", "--model", "builtin"]

[[language]]
name = "python"
language-servers = ["redline"]
"""


class Terminal:
    """A program on a pseudo-terminal: keys go in, and what was ever drawn is kept as text."""

    def __init__(self, argv, **more):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 140, 0, 0))
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, **more)
        os.close(slave)
        self.drawn = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                return
            text = data.decode("utf-8", "replace")
            self.drawn += re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]", " ", text)

    def keys(self, text):
        os.write(self.master, text.encode())

    def until(self, condition, what, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.05)
        raise AssertionError(f"{what} did not come true; last drawn: {self.drawn[-3000:]}")

    def sees(self, *words, seconds=30):
        """Wait until all of these were drawn since the last time; Helix draws what changed, a word at a time."""
        self.until(lambda: all(word in self.drawn for word in words), f"seeing {words}", seconds)
        self.drawn = ""

    def close(self):
        self.process.kill()
        self.process.wait(10)
        os.close(self.master)


@pytest.fixture
def helix(tmp_path, project):
    found = os.environ.get("HELIX_BIN") or shutil.which("hx")
    if not found:
        pytest.skip("there is no Helix here (no package of Debian 12 or PyPI has it)")
    (tmp_path / "config/helix").mkdir(parents=True)
    (tmp_path / "config/helix/languages.toml").write_text(CONFIG.format(python=sys.executable))
    (project / ".git").mkdir()
    env = {**os.environ, "TERM": "xterm-256color", "REDLINE_STATE_DIR": str(tmp_path / "state")}
    env |= {f"XDG_{kind.upper()}_HOME": str(tmp_path / kind) for kind in ("config", "state", "data", "cache")}
    terminal = Terminal([found, "a.py"], cwd=project, env=env)
    yield terminal
    terminal.close()


def test_ask_by_a_directive_and_decide_by_code_actions(helix, project):
    a = project / "a.py"
    helix.sees("def", "foo")
    time.sleep(2)
    helix.keys("ggO# redline: rename foo to bar\x1b")
    time.sleep(0.7)
    helix.drawn = ""
    helix.keys(" a")
    helix.sees("Redline:", "rename", "foo")
    helix.keys("\r")
    helix.until(lambda: "proposed" in helix.drawn or "h1" in helix.drawn, "the proposal")
    helix.keys("6gg")
    helix.drawn = ""
    helix.keys(" a")
    helix.sees("accept")
    helix.keys("\r")
    time.sleep(1)
    helix.keys(":w\r")
    helix.until(lambda: "def bar(x)" in a.read_text(), "the accepted hunk on the disk")
    assert a.read_text() == "# redline: rename foo to bar\n" + A_PY.replace("def foo", "def bar")
    helix.keys("u:w\r")
    helix.until(lambda: "def foo(x)" in a.read_text(), "the undo")
    assert a.read_text() == "# redline: rename foo to bar\n" + A_PY
    assert (project / "b.py").read_text() == B_PY
