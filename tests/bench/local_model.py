"""Edit tasks with a real small model behind an OpenAI-compatible server, each with an objective check.

    OPENAI_BASE_URL=http://127.0.0.1:8089/v1 python tests/bench/local_model.py [--edits symbol whole search_replace]
        [--only NAME ...] [--seconds 180]

Half of the tasks are in files of a few lines, half in the same files with 250 lines and more around. For each edit
dialect: solved, seconds (the first task of a dialect is its cold start), tokens. What solves a task is its check, a piece of
Python that is run with the accepted file as module `m`; nothing else of the file may have changed its behaviour
(`kept` is checked too).
"""

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.context.index import Index
from redline_agent.deciding import accept
from redline_agent.journal import Journal
from redline_agent.limits import Limits
from redline_agent.models.compatible import CompatibleModel
from redline_agent.session import Workspace

SMALL = {
    "mean-of-nothing": (
        "def total(values):\n    return sum(values)\n\n\ndef mean(values):\n    return total(values) / len(values)\n",
        "make mean return 0 for an empty list instead of failing",
        "assert m.mean([]) == 0 and m.mean([1, 3]) == 2 and m.total([1]) == 1",
    ),
    "off-by-one": (
        "def first_n(items, n):\n    return items[:n - 1]\n\n\ndef last(items):\n    return items[-1]\n",
        "first_n returns one item too few; fix it",
        "assert m.first_n([1, 2, 3], 2) == [1, 2] and m.last([1, 2]) == 2",
    ),
    "default-argument": (
        "def add(item, items=[]):\n    items.append(item)\n    return items\n\n\ndef size(items):\n    return len(items)\n",
        "fix the mutable default argument of add",
        "assert m.add(1) == [1] and m.add(2) == [2] and m.add(3, [0]) == [0, 3] and m.size([1]) == 1",
    ),
    "docstring": (
        "def area(width, height):\n    return width * height\n\n\ndef double(x):\n    return 2 * x\n",
        "add a docstring to area",
        "assert m.area.__doc__ and m.area(2, 3) == 6 and m.double.__doc__ is None and m.double(2) == 4",
    ),
    "type-hints": (
        "def join(words, separator):\n    return separator.join(words)\n\n\ndef shout(text):\n    return text.upper()\n",
        "add type hints to the function join",
        "assert len(m.join.__annotations__) == 3 and m.join(['a', 'b'], '-') == 'a-b' and not m.shout.__annotations__",
    ),
    "raise-value-error": (
        "def sqrt(x):\n    return x ** 0.5\n\n\ndef square(x):\n    return x * x\n",
        "sqrt must raise ValueError for a negative number",
        "import pytest\nwith pytest.raises(ValueError): m.sqrt(-1)\nassert m.sqrt(4) == 2 and m.square(-2) == 4",
    ),
    "f-string": (
        "def greet(name, day):\n    return 'Hello %s, happy %s' % (name, day)\n\n\ndef bye(name):\n    return 'Bye ' + name\n",
        "use an f-string in greet",
        (
            "import inspect\nassert m.greet('A', 'B') == 'Hello A, happy B' and '%' not in inspect.getsource(m.greet)"
            " and m.bye('x') == 'Bye x'"
        ),
    ),
    "method": (
        (
            "class Cart:\n    def __init__(self):\n        self.items = []\n\n    def add(self, price):\n        self.items.append(price)\n\n"
            "    def total(self):\n        return sum(self.items)\n"
        ),
        "give the method total a parameter discount, default 0, that is taken off the sum",
        "c = m.Cart(); c.add(10); assert c.total() == 10 and c.total(3) == 7 and c.total(discount=1) == 9",
    ),
    "comprehension": (
        (
            "def evens(numbers):\n    result = []\n    for n in numbers:\n        if n % 2 == 0:\n            result.append(n)\n"
            "    return result\n\n\ndef odds(numbers):\n    return [n for n in numbers if n % 2]\n"
        ),
        "rewrite evens as a list comprehension",
        "import inspect\nassert m.evens([1, 2, 4]) == [2, 4] and 'append' not in inspect.getsource(m.evens) and m.odds([1]) == [1]",
    ),
    "rename-parameter": (
        "def power(b, e):\n    return b ** e\n\n\ndef root(b, e):\n    return b ** (1 / e)\n",
        "in power, rename the parameters b and e to base and exponent",
        "assert m.power(base=2, exponent=3) == 8 and m.root(b=4, e=2) == 2",
    ),
    "strip": (
        "def clean(lines):\n    return [line for line in lines]\n\n\ndef count(lines):\n    return len(lines)\n",
        "clean should strip white space from each line and leave empty ones out",
        "assert m.clean([' a ', '  ', 'b']) == ['a', 'b'] and m.count([1]) == 1",
    ),
    "none-guard": (
        "def initials(name):\n    return ''.join(part[0] for part in name.split())\n\n\ndef length(name):\n    return len(name)\n",
        "initials should return an empty string when name is None",
        "assert m.initials(None) == '' and m.initials('Ada Love') == 'AL' and m.length('ab') == 2",
    ),
}


def around(first, last):
    return "".join(
        f'def unrelated_{n}(value):\n    """Return the value, moved by {n}."""\n    step = {n}\n    return value + step\n\n\n'
        for n in range(first, last + 1)
    )


KEPT = "assert [getattr(m, f'unrelated_{n}')(1) for n in range(1, 48)] == list(range(2, 49))"


def tasks():
    for name, (text, ask, check) in SMALL.items():
        yield f"small/{name}", text, ask, check
    for name, (text, ask, check) in SMALL.items():
        long = f"{around(1, 24)}{text}\n\n{around(25, 47)}".rstrip() + "\n"
        yield f"large/{name}", long, ask, f"{check}\n{KEPT}"


async def one(folder, text, ask, model, seconds=180.0):
    root = folder / "ws"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    (root / "m.py").write_text(text)
    workspace = Workspace(root, Journal(folder / "journal.sqlite"), index=Index(root))
    config = Config(limits=Limits(turns_max=6, minutes_max=seconds / 60), validate="never", plan="never")
    try:
        run = workspace.new_run(Task(ask), model, config)
        async for _ in workspace.carry_out(run, model):
            pass
    finally:
        await workspace.index.close()
    if run.proposal:
        accept(workspace, run.proposal, [item.id for item in run.proposal.items])
    return run


def solved(folder, check):
    code = f"import sys; sys.path.insert(0, {str(folder / 'ws')!r})\nimport m\n{check}"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, timeout=30, cwd=folder)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", nargs="+", default=["symbol", "whole", "search_replace"])
    parser.add_argument("--seconds", type=float, default=180.0, help="what a task may take")
    parser.add_argument("--only", nargs="+", default=[])
    args = parser.parse_args()
    for edits in args.edits:
        rows = {"small": [], "large": []}
        for name, text, ask, check in tasks():
            if args.only and not any(each in name for each in args.only):
                continue
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                os.environ["REDLINE_STATE_DIR"] = str(folder / "state")
                can = {
                    "profile": "small",
                    "native_tools": False,
                    "parallel_calls": False,
                    "judges": False,
                    "edits": edits,
                    "output_tokens_max": 600,
                }
                model = CompatibleModel("local", {"can": can})

                async def go(folder=folder, text=text, ask=ask, model=model):
                    try:
                        return await one(folder, text, ask, model, args.seconds)
                    finally:
                        await model.close()

                began = time.monotonic()
                run = asyncio.run(go())
                seconds = time.monotonic() - began
                good = run.proposal is not None and solved(folder, check)
            rows[name.split("/")[0]].append((good, seconds, run.meter.tokens))
            turns = run.meter.turns
            state = "solved" if good else f"not solved ({run.state})"
            print(
                f"{edits:<14} {name:<26} {state:<22} {seconds:5.1f} s {run.meter.tokens:6} tokens {turns} turns",
                flush=True,
            )
        for size, results in rows.items():
            if results:
                count = sum(good for good, _, _ in results)
                seconds = [each for _, each, _ in results]
                tokens = statistics.mean(each for _, _, each in results)
                print(f"== {edits} in {size} files: {count} of {len(results)} solved, seconds {seconds[0]:.1f} cold,"
                      f" median {statistics.median(seconds):.1f}, most {max(seconds):.1f}; {tokens:.0f} tokens each", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
