"""What the tests of campaigns share: repositories, plans, campaigns carried out in this process, and their workers."""

import asyncio
import os
import subprocess
from pathlib import Path

from kit import lay
from redline_agent.jobs.campaign import Campaign, Where
from redline_agent.jobs.plan import checked

KEY = "sk-ant-a-key-that-must-not-travel"


def git(root, *args, ok=True):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *who, *args], cwd=root, capture_output=True, text=True, env=env)
    assert done.returncode == 0 or not ok, done.stderr
    return done.stdout


def repository(root, files):
    lay(root, files)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def everything(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def numbered(count, steps=3):
    text = "".join(f"line {n} = 0\n" for n in range(steps)).replace("line ", "line_")
    files = {f"m{n:02}.py": text for n in range(count)}
    edits = {path: [(f"line_{n} = 0", f"line_{n} = {n + 1}") for n in range(steps)] for path in files}
    return files, edits


def carry_out(root, plan, where=None, *, again=False, beside=None):
    """Carry a campaign out; returns its rows and itself, closed."""
    campaign = Campaign(plan, root)
    seen = []
    campaign.changed = seen.append

    async def go():
        campaign.find()
        campaign.take_in(again=again)
        other = asyncio.create_task(beside(campaign)) if beside else None
        try:
            await campaign.carry_out(where or Where(2))
        finally:
            if other:
                other.cancel()

    try:
        asyncio.run(go())
        return campaign.rows(), campaign, seen
    finally:
        campaign.close()


def workers():
    """The process ids of this process's workers."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid"))
            command = (status.parent / "cmdline").read_bytes()
        except (OSError, StopIteration):
            continue
        if parent.split()[1] == str(os.getpid()) and b"redline_agent.jobs.worker" in command:
            found.append(int(status.parent.name))
    return found


def plan(**given):
    limits = {"concurrency": 2, **given.pop("limits", {})}
    return checked(
        {
            "task": "count them",
            "over": ["*.py"],
            "model": "anthropic:claude-sonnet-5-5",
            "validation": "never",
            "limits": limits,
            **given,
        },
        "a test",
    )


BUILTIN = {
    "task": "modernise syntax; organise imports; remove unused",
    "model": "builtin",
    "limits": {"concurrency": 2},
}
OLD = "import sys\nimport os\nfrom typing import List\n\n\ndef f(x: List[int]):\n    return os.path.join('a', str(x))\n"


def patches(root):
    found = {path.name.rpartition("-")[0]: path.read_text() for path in (root / "patches").iterdir()}
    for path in (root / "patches").iterdir():
        path.unlink()
    return found
