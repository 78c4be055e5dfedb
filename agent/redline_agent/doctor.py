"""`redline doctor`: what this installation has, what holds, and what to do about the rest. Reads only."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from redline_agent.config import config_path, load_config, state_dir
from redline_agent.errors import RedlineError
from redline_agent.models.catalog import make_model
from redline_agent.models.names import default_model


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report; `ok` None is a remark."""

    name: str
    ok: bool | None
    detail: str


def examine(env: Mapping[str, str] = os.environ) -> list[Check]:
    """Run every check; none of them raises."""
    checks: list[Callable[[Mapping[str, str]], Check]] = [
        _python,
        _packages,
        _config,
        _state,
        _model,
        _sandbox,
        _network,
        _editors,
    ]
    return [check(env) for check in checks]


def _python(_: Mapping[str, str]) -> Check:
    good = sys.version_info >= (3, 11)
    return Check(
        "python",
        good,
        f"{platform.python_version()} on {platform.system()}" + ("" if good else "; 3.11 is needed"),
    )


def _packages(_: Mapping[str, str]) -> Check:
    found: list[str] = []
    for name in ("redline-ls", "pygls", "lsprotocol", "anthropic", "rope", "ruff"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            return Check("packages", False, f"{name} is not installed; reinstall Redline")
    return Check("packages", True, ", ".join(found))


def _config(env: Mapping[str, str]) -> Check:
    try:
        load_config(env)
    except RedlineError as error:
        return Check("configuration", False, str(error))
    path = config_path(env)
    return Check("configuration", True, f"{path}" if path.exists() else f"none (it would be {path})")


def _state(env: Mapping[str, str]) -> Check:
    folder = state_dir(env)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_text("x", "utf-8")
        probe.unlink()
    except OSError as error:
        return Check("state folder", False, f"{folder} cannot be written ({error.strerror}); set REDLINE_STATE_DIR")
    return Check("state folder", True, str(folder))


def _model(env: Mapping[str, str]) -> Check:
    try:
        name = load_config(env).model or default_model(env)
        make_model(name)
    except RedlineError as error:
        return Check("model", False, str(error))
    note = "" if name != "builtin" else "; set ANTHROPIC_API_KEY for Claude"
    return Check("model", True, name + note)


def _sandbox(_: Mapping[str, str]) -> Check:
    """Really try to get out of each layer, as the first command of a run does."""
    from redline_agent.safety.sandbox.layers import find_layer

    try:
        found = asyncio.run(find_layer(again=True))
    except (RedlineError, OSError) as error:
        return Check("sandbox", None, f"could not be tried ({error}); each command asks first")
    tried = "; ".join(found.tried)
    if found.layer is None:
        return Check("sandbox", None, f"none, so each command asks first and headless runs refuse it ({tried})")
    return Check(
        "sandbox", True, f"{tried}. Tried: reading, writing, TCP, UDP, Unix sockets, signals, tracing, environment"
    )


def _network(env: Mapping[str, str]) -> Check:
    try:
        hosts = [
            line.partition(":")[2].strip() for line in load_config(env).permissions.allow if line.startswith("net:")
        ]
    except RedlineError:
        hosts = []
    return Check("network", None, f"commands reach {', '.join(hosts)} through a proxy" if hosts else "off for commands")


def _editors(_: Mapping[str, str]) -> Check:
    found = [name for name in ("code", "nvim", "emacs", "hx") if shutil.which(name)]
    return Check("editors", None, ", ".join(found) or "none of code, nvim, emacs, hx on PATH")
