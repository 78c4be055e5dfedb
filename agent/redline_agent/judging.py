"""Planning and validating: two roles that look at the whole of a run, before it and after it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from redline_agent.children import Means
from redline_agent.context.view import plan_text
from redline_agent.errors import LimitReached, ModelError, RedlineError
from redline_agent.events import Durable, Event, Failed, Planned, Step, Working
from redline_agent.frame import Frame
from redline_agent.messages import USER, Label, Text
from redline_agent.roles.roles import why_plan
from redline_agent.safety.labels import Taint, join
from redline_agent.text import clip, one_line
from redline_agent.workspace.diffs import diffs
from redline_agent.workspace.proposal import ProofItem, Proposal

VALIDATIONS_MAX = 2
_DIFF_CHARS_MAX = 60_000
_REPLANS_MAX = 3


async def planned(means: Means, frame: Frame, *, worked: bool) -> AsyncIterator[Event]:
    """Have a plan made where the task is large, and where the user wants to see it first, wait for their word."""
    wish = means.config.plan
    why = why_plan(means.run.task.instruction) if wish == "auto" else "you want a plan" if wish != "never" else ""
    if not why or worked or not frame.model.capabilities.judges or frame.conversation.plan is not None:
        return
    yield Working(text=f"Planning: {why}")
    content = frame.conversation.task
    for number in range(_REPLANS_MAX + 1):
        out: list[tuple[str, Taint]] = []
        try:
            key = "plan" if number == 0 else f"plan-{number}"
            async for event in means.watching("planner", key, content, frame.model, out):
                yield event
        except ModelError as error:
            yield frame.keep(Failed(what="plan", message=f"There is no plan: {error.message}"))
            return
        answer, taint = out[0]
        frame.given = join(frame.given, taint)
        label = frame.made_by("the planner")
        planned = Planned(steps=_steps(answer), by="planner", stepwise=True, label=label)
        words = await _word_on(means, planned) if wish == "ask" else ""
        if words is None:
            raise RedlineError("The plan was not confirmed.", hint='Say yes to it, or set plan = "auto".')
        if not words:
            yield frame.keep(planned)
            return
        asked = f"The plan was:\n{plan_text(planned)}\nThe user wants it changed: {words}"
        content = (*content, Text(text=asked, label=USER))


async def _word_on(means: Means, planned: Planned) -> str | None:
    """Return what the user wants changed, "" for yes, None for no answer."""
    answer = await means.people.words(f"{plan_text(planned)}\nGo on with this plan? (yes, or what to change)")
    if answer is None or answer.strip().lower() in ("no", "n"):
        return None
    return "" if answer.strip().lower() in ("", "yes", "y", "ok") else answer.strip()


async def validated(means: Means, frame: Frame, proposal: Proposal, rounds: int) -> AsyncIterator[Event | str]:
    """Have the change judged; a str is the findings for the executor, the proof gets what came of it."""
    wish = means.config.validate
    proof = proposal.proof
    if wish == "never" or not proposal.items or not frame.model.capabilities.judges:
        return
    if rounds >= VALIDATIONS_MAX:
        proof.append(ProofItem("validator", "current", False, "had findings twice; the change was made after that"))
        return
    yield Working(text="Having the change validated")
    out: list[tuple[str, Taint]] = []
    try:
        async for event in means.watching("validator", f"validate-{rounds}", _case(means, proposal), frame.model, out):
            yield event
        answer, taint = out[0]
        verdict = json.loads(answer)
    except (ModelError, LimitReached, ValueError) as error:
        why = error.message if isinstance(error, RedlineError) else "it gave no verdict"
        proof.append(ProofItem("validator", "unavailable", None, one_line(why)))
        yield frame.keep(Failed(what="validate", message=one_line(why)))
        return
    frame.given = join(frame.given, taint)
    if verdict["passed"] or not verdict["findings"]:
        proof.append(ProofItem("validator", "current", True, "the change does what was asked"))
        return
    lines = [f"- {each['path']}:{each['line']}: {each['problem']}" for each in verdict["findings"]]
    yield "A review of your change has findings. Mend what is right in them, then finish again.\n" + "\n".join(lines)


def _case(means: Means, proposal: Proposal) -> tuple[Text, ...]:
    """What the validator sees: the task, the diff, the proof, and nothing else."""
    masks = means.workspace.masks
    shown = [f"{item.check}: {item.path}: {item.state}: {item.detail}" for item in proposal.proof]
    diff = masks.masked("\n".join(diffs(proposal)))
    return (
        Text(text=f"The task:\n{masks.masked(means.run.task.instruction)}", label=means.run.task.source),
        Text(text=clip(diff, _DIFF_CHARS_MAX), label=Label(source="workspace", detail="the diff")),
        Text(
            text=clip(masks.masked("What was checked:\n" + "\n".join(shown)), _DIFF_CHARS_MAX),
            label=Label(source="command", detail="the proof"),
        ),
    )


def _steps(answer: str) -> tuple[Step, ...]:
    data = json.loads(answer)
    return tuple(
        Step(what=each["what"], files=tuple(each["files"]), check=each["check"], state="open" if at else "doing")
        for at, each in enumerate(data["steps"])
    )


def next_step(frame: Frame, summary: str) -> tuple[str, Durable | None]:
    """Return what the executor is told when it finishes a step of a planner's plan, and the plan from then on.

    "" when nothing is left to do.
    """
    plan = frame.conversation.plan
    if plan is None or not plan.stepwise:
        return "", None
    left = [n for n, step in enumerate(plan.steps) if step.state in ("open", "doing")]
    at = next((n for n in left if plan.steps[n].state == "doing"), left[0] if left else None)
    if at is None:
        return "", None
    steps = [*plan.steps]
    steps[at] = steps[at].model_copy(update={"state": "done"})
    following = next((n for n in left if n != at), None)
    if following is None:
        return "", plan.model_copy(update={"steps": tuple(steps), "by": "executor"})
    steps[following] = steps[following].model_copy(update={"state": "doing"})
    step = steps[following]
    check = f" Done when: {step.check}" if step.check else ""
    files = f" Files: {', '.join(step.files)}." if step.files else ""
    done = f"Step {at + 1} of {len(steps)} is done: {one_line(summary)}"
    text = f"{done} Now step {following + 1}: {step.what}.{files}{check}"
    return text, plan.model_copy(update={"steps": tuple(steps), "by": "executor"})
