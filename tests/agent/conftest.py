"""Fixtures of the agent's tests."""

import pytest
from steady_server import SteadyServer

KEY = "sk-ant-a-key-that-must-not-travel"


@pytest.fixture
def claude(monkeypatch):
    """Start a server for some edits, and have the environment name it."""
    servers = []

    def start(edits, **more):
        server = SteadyServer(edits, **more)
        servers.append(server)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        return server

    yield start
    for server in servers:
        server.__exit__()
