"""Real editors. Where the machine cannot have one the test says so and is skipped; with CI=true it is installed or fails."""

import os
import shutil
import subprocess

import pytest

A_PY = "import os\nimport sys\n\n\ndef foo(x):\n    return x\n\n\nprint(foo(1), sys.argv)\n"
B_PY = "from a import foo\n\nprint(foo(2))\n"


def missing(what):
    """No editor: skip, or fail where it was promised."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and {what}")
    pytest.skip(what)


def debian(*packages):
    """Install Debian packages, in CI or where asked for; says whether it could."""
    if shutil.which("apt-get") is None or os.geteuid() != 0 or os.environ.get("CI") != "true":
        return False
    subprocess.run(["apt-get", "update", "-q"], capture_output=True, timeout=300)
    argv = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    return subprocess.run(argv, capture_output=True, timeout=900).returncode == 0
