"""The gate: a pure function from a request, labels, rules and what the user granted, to block, ask or allow.

No model and no I/O in it. Denials come first; a grant turns a question into leave, never a denial; what nothing allows
is blocked. In a verified sandbox a command needs no question, because it reaches nothing: what is asked about are the
exits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redline_agent.safety.commands import has_controls, hazard
from redline_agent.safety.labels import Taint
from redline_agent.safety.requests import Access, Apply, Command, Connect, Request, Server
from redline_agent.safety.rules import Line, Rules
from redline_agent.text import has_hidden

Verdict = Literal["block", "ask", "allow"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says; `rule` names the rule that decided. `secret` marks a file of secrets that the user opened."""

    verdict: Verdict
    rule: str
    reason: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What the user said before: whether the folder is trusted, and the keys of what was approved for longer."""

    trusted: bool = False
    approved: frozenset[str] = frozenset()


NOBODY = Standing()
_NO_WAY_OUT = "untrusted text and a secret were both read, so nothing goes out"


def decide(request: Request, taint: Taint, rules: Rules, standing: Standing) -> Decision:
    """Return the verdict on one request."""
    denied = _line(request, rules.deny)
    if denied:
        return Decision("block", "denied", f"{denied.whose} deny it ({denied.text})")
    match request:
        case Access():
            decision = _on_file(request, rules)
        case Command():
            decision = _on_command(request, taint, rules, standing)
        case Connect():
            decision = _on_connection(request, taint, rules)
        case Server():
            decision = _on_server(request, taint, rules, standing)
        case Apply():
            decision = _on_apply(request, rules)
    if decision.verdict == "allow" and (asked := _line(request, rules.ask)):
        decision = Decision("ask", "asked", f"{asked.whose} want to be asked ({asked.text})", decision.secret)
    if decision.verdict == "ask" and request.grant_key() in standing.approved:
        return Decision("allow", "approved", "you approved it before", decision.secret)
    return decision


def _line(request: Request, lines: tuple[Line, ...]) -> Line | None:
    return next((line for line in lines if line.denies(request)), None)


def _granted(request: Request, rules: Rules) -> bool:
    return any(line.allows(request) for line in rules.allow)


def _on_file(request: Access, rules: Rules) -> Decision:
    if request.place == "protected":
        return Decision("block", "protected", "it is, or is another name of, a file of your secrets or of the system")
    for rule in rules.rules:
        if request.effect in rule.effects and rule.speaks_of(request.path):
            if rule.verdict == "block" and rule.yields and _granted(request, rules):
                return Decision("allow", "granted", "your settings open this file of secrets", secret=True)
            if rule.verdict != "allow":
                return Decision(rule.verdict, rule.id, rule.reason)
            break
    else:
        return Decision("block", "default", "no rule allows it")
    if request.place == "library":
        if request.effect != "read":
            return Decision("block", "outside", "it is outside the workspace folder")
        return Decision("allow", "libraries", "a library's source may be read")
    if request.place == "outside":
        if request.effect != "read":
            return Decision("block", "outside", "it is outside the workspace folder")
        if _granted(request, rules):
            return Decision("allow", "granted", "your settings allow it")
        return Decision("ask", "outside", "it is outside the workspace folder")
    if request.links > 1 and request.effect == "read" and not _granted(request, rules):
        return Decision(
            "ask", "hard-link", f"the file has {request.links} names on the disk, so it may be another file"
        )
    return Decision("allow", "files", "inside the workspace; edits go to the overlay")


def _on_command(request: Command, taint: Taint, rules: Rules, standing: Standing) -> Decision:
    if not standing.trusted:
        return Decision("block", "untrusted", "nothing of this folder runs before the user trusts it")
    if has_controls(request.text):
        return Decision("block", "control-characters", "it has control or invisible characters")
    if taint.tainted and taint.secret and rules.hosts and _names_a_host(request.text, rules):
        return Decision("block", "secret-and-tainted", _NO_WAY_OUT)
    if request.sandbox:
        return Decision("allow", "sandbox", f"it runs in the sandbox ({request.sandbox}), where it reaches nothing")
    danger = hazard(request.text)
    if danger:
        return Decision("block", "hazard", f"{danger}, and there is no sandbox")
    if _granted(request, rules):
        return Decision("allow", "granted", "your settings allow exactly these words")
    return Decision("ask", "unsandboxed", "there is no sandbox here, so it can reach what you can")


def _names_a_host(text: str, rules: Rules) -> bool:
    """Whether a command speaks of the network; the proxy lets nothing through either way."""
    return "://" in text or any(line.words[0].lstrip("*.") in text for line in rules.allow if line.kind == "net")


def _on_connection(request: Connect, taint: Taint, rules: Rules) -> Decision:
    if taint.tainted and taint.secret:
        return Decision("block", "secret-and-tainted", _NO_WAY_OUT)
    if _granted(request, rules):
        return Decision("allow", "granted", "your settings allow this host")
    return Decision("block", "network", "the network is off but for hosts that your settings allow")


def _on_server(request: Server, taint: Taint, rules: Rules, standing: Standing) -> Decision:
    if request.remote and taint.tainted and taint.secret:
        return Decision("block", "secret-and-tainted", _NO_WAY_OUT)
    if not standing.trusted:
        return Decision("block", "untrusted", "nothing of this folder runs before the user trusts it")
    if _granted(request, rules):
        return Decision("allow", "granted", "your settings allow it as it is now")
    return Decision("ask", "mcp", "it is new, or not what it was when you allowed it")


def _on_apply(request: Apply, rules: Rules) -> Decision:
    """The user's own decision; what no agent may write is not written even so."""
    for path, _, after in request.files:
        decision = _on_file(Access("write" if after else "delete", path), rules)
        if decision.verdict != "allow":
            return Decision("block", decision.rule, f"{path}: {decision.reason}")
    return Decision("allow", "accepted", "the user accepted it")


def badge(path: str, new_text: str, rules: Rules, *, links: int = 1) -> str:
    """Why a bulk accept must leave this file's change for a single decision; "" when it need not."""
    for each in rules.badges:
        if each.speaks_of(path):
            return each.reason
    if has_hidden(new_text):
        return "the new text has invisible or control characters"
    if '"$schema"' in new_text and "://" in new_text:
        return "the new text names a remote schema, which editors fetch"
    if links > 1:
        return f"the file has {links} names on the disk, and an editor changes it under all of them"
    return ""
