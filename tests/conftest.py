import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("deep", deadline=None, max_examples=3000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("REDLINE_EXAMPLES") or ("ci" if os.environ.get("CI") else "default"))


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
    """No test sees the developer's keys, models, configuration or state."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "REDLINE_MODEL", "REDLINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REDLINE_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def folder(tmp_path):
    """An empty workspace folder, with room beside it."""
    root = tmp_path / "ws"
    root.mkdir()
    return root


@pytest.fixture(autouse=True)
def closed_journals(monkeypatch):
    """Every journal that a test opens is closed after it: from Python 3.13 on, SQLite says so when not."""
    from redline_agent.journal import Journal

    opened = []
    begin = Journal.__init__

    def remember(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(Journal, "__init__", remember)
    yield
    for journal in opened:
        journal.close()
