"""Secrets inside text: found, masked everywhere, kept whole in the user's files, and at least what detect-secrets finds."""

import asyncio
import importlib
import inspect
import pkgutil
import random
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import call, disk, finish, lay, proposed_text, results, workspace
from redline_agent.config import Config
from redline_agent.context.gather import Task
from redline_agent.models.scripted import ScriptedModel
from redline_agent.safety.secrets import PREFIX, Masks, find_secrets
from redline_agent.text import escape_hidden, unescape_hidden

chance = random.Random(3)


def letters(count, alphabet=string.ascii_letters + string.digits):
    return "".join(chance.choice(alphabet) for _ in range(count))


HEX = "0123456789abcdef"
SEEDS = {
    "aws-access-key": "AKIA" + letters(16, string.ascii_uppercase + string.digits),
    "github": "ghp_" + letters(36),
    "github-fine": "github_pat_" + letters(40),
    "gitlab": "glpat-" + letters(20),
    "slack": "xoxb-" + letters(12, string.digits) + "-" + letters(24),
    "claude": "sk-ant-api03-" + letters(80),
    "openai": "sk-proj-" + letters(48),
    "hugging-face": "hf_" + letters(34),
    "stripe": "sk_live_" + letters(24),
    "google": "AIza" + letters(35),
    "npm": "npm_" + letters(36),
    "pypi": "pypi-AgEIcHlwaS5vcmc" + letters(70),
    "digital-ocean": "dop_v1_" + letters(64, HEX),
    "sendgrid": "SG." + letters(22) + "." + letters(43),
    "telegram": letters(9, "123456789") + ":AA" + letters(33),
    "jwt": "eyJ" + letters(20) + ".eyJ" + letters(30) + "." + letters(20),
    "twilio": "SK" + letters(32, HEX),
    "mailchimp": letters(32, HEX) + "-us12",
    "doppler": "dp.pt." + letters(43),
    "vault": "hvs." + letters(30),
}
NAMED = {
    "password": letters(14),
    "api_key": letters(24),
    "client_secret": letters(30),
    "db_password": letters(12),
    "auth_token": letters(20),
}
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(letters(64) for _ in range(6)) + "\n-----END RSA PRIVATE KEY-----\n"
)
ALL = [*SEEDS.values(), *NAMED.values(), *KEY.split("\n")[1:-2], "hunter2hunter2"]


def seeded(folder):
    lines = [f"{name.upper().replace('-', '_')}_X = '{value}'\n" for name, value in SEEDS.items()]
    lines += [f'{name} = "{value}"\n' for name, value in NAMED.items()]
    lay(
        folder,
        {
            "src/conf.py": "x = 1\n" + "".join(lines) + "y = 2\n",
            "docs/key.txt": KEY,
            "settings.yaml": f"db:\n  password: {NAMED['password']}1\n  url: postgres://me:hunter2hunter2@db.test/x\n",
            "AGENTS.md": f"Use the token {SEEDS['github']} to push.\n",
            ".env": f"A={SEEDS['stripe']}\n",
        },
    )


def test_no_seeded_secret_reaches_prompts_journal_or_logs(folder, caplog, capfd):
    caplog.set_level("DEBUG")
    seeded(folder)
    ws = workspace(folder)
    ws.memory.trust(ws.resolver.root)
    script = [
        call("read", path="src/conf.py"),
        call("read", path="docs/key.txt", start=3, end=4),
        call("read", path="settings.yaml"),
        call("search", pattern="."),
        call("search", pattern=KEY.split("\n")[2][:8]),
        call("edit", path="src/conf.py", old="x = 1", new="x = 3"),
        call("write", path="src/other.py", content="z = 1\n"),
        call("run", command="cat src/conf.py settings.yaml docs/key.txt AGENTS.md; cat .env; tail -3 docs/key.txt"),
        call("run", command="sed -i 's/y = 2/y = 4/' src/conf.py; grep -n password -r ."),
        call("read", path="missing" + SEEDS["google"]),
        finish("done"),
    ]
    model = ScriptedModel(script)

    async def go():
        task = Task(
            f"use {SEEDS['claude']} please", file="src/conf.py", lines=(1, 9), diagnostics=(f"bad {SEEDS['npm']}",)
        )
        run = ws.new_run(task, model, Config())
        return run, [event async for event in ws.carry_out(run, model)]

    run, events = asyncio.run(go())
    assert [error for error, _ in results(events)] == [False] * 9 + [True, False]
    prompts = "".join(
        block.text for r in model.requests for m in r.messages for block in m.content if hasattr(block, "text")
    )
    journal = b"".join(p.read_bytes() for p in folder.parent.glob("journal.sqlite*")).decode("utf-8", "replace")
    shown = "".join(e.model_dump_json() for e in events if e.type not in ("proposed", "reply"))
    said = caplog.text + "".join(capfd.readouterr())
    for secret in ALL:
        assert secret not in prompts
        assert secret not in shown.replace("missing" + SEEDS["google"], "")
        assert secret not in said
        # what a model itself wrote is kept as it was: it must go back to it byte for byte
        assert secret not in journal.replace("missing" + SEEDS["google"], "")
    assert prompts.count(PREFIX) > 40
    assert proposed_text(run, "src/conf.py") == disk(folder)["src/conf.py"].replace("x = 1", "x = 3").replace(
        "y = 2", "y = 4"
    )


def test_the_raw_store_alone_has_the_texts_and_proposals_are_read_back(folder):
    seeded(folder)
    ws = workspace(folder)
    model = ScriptedModel([call("edit", path="src/conf.py", old="x = 1", new="x = 3"), finish()])

    async def go():
        run = ws.new_run(Task("x"), model, Config())
        async for _ in ws.carry_out(run, model):
            pass

    asyncio.run(go())
    assert [h.new for p in ws.proposals() for h in p.hunks] == [("x = 3\n",)]
    assert ws.journal.raw_path.stat().st_mode & 0o777 == 0o600
    assert SEEDS["github"].encode() in b"".join(p.read_bytes() for p in folder.parent.glob("journal.raw.sqlite*"))


def test_an_edit_around_a_secret_keeps_it(folder):
    lay(folder, {"a.py": f"key = '{SEEDS['github']}'  # old\n", "b.py": "x = 1\n"})
    ws = workspace(folder)
    name = Masks.masked(ws.masks, SEEDS["github"])
    assert name.startswith(PREFIX)
    model = ScriptedModel(
        [
            call("edit", path="a.py", old=f"key = '{name}'  # old", new=f"token = '{name}'  # new"),
            call("edit", path="b.py", old="x = 1", new=f"x = '{name}'"),
            finish(),
        ]
    )

    async def go():
        run = ws.new_run(Task("x"), model, Config())
        return run, [event async for event in ws.carry_out(run, model)]

    run, _ = asyncio.run(go())
    assert proposed_text(run, "a.py") == f"token = '{SEEDS['github']}'  # new\n"
    assert proposed_text(run, "b.py") == f"x = '{name}'\n"  # a name stands for a secret of the same file only


@pytest.mark.parametrize(
    "text",
    [
        "def token(self): pass\n",
        "password = get_password('x')\n",
        "PASSWORD = os.environ['PASSWORD']\n",
        "token: str = ''\n",
        "api_key = None\n",
        "password='changeme'\n",
        "https://example.org/a:b@c\n",
        "secret = '<your secret>'\n",
        "token = Token.from_str(value)\n",
        "sha256 = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'\n",
        '"integrity": "sha512-abcDEF0123456789abcDEF0123456789abcDEF0123456789abcDEF0123456789=="\n',
        "PWD=/home/me/project\n",
        "user:pass@host\n",
        "def test_password_is_checked_when_set():\n",
    ],
)
def test_ordinary_code_is_left_alone(text):
    assert find_secrets(text) == []


def test_real_code_has_few_false_alarms():
    """A figure, not a promise: two packages' own sources."""
    import networkx
    import rich

    found = files = 0
    for module in (networkx, rich):
        for path in Path(module.__file__).parent.rglob("*.py"):
            files += 1
            found += len(find_secrets(path.read_text("utf-8")))
    assert files > 300
    assert found <= 3


def patterns_of_detect_secrets():
    import detect_secrets.plugins as package
    from detect_secrets.plugins.base import RegexBasedDetector

    left_out = {
        "IPPublicDetector",
        "CloudantDetector",
        "IbmCloudIamDetector",
        "IbmCosHmacDetector",
        "SoftlayerDetector",
    }
    for entry in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"detect_secrets.plugins.{entry.name}")
        for name, found in inspect.getmembers(module, inspect.isclass):
            if issubclass(found, RegexBasedDetector) and found is not RegexBasedDetector and name not in left_out:
                yield from ((name, pattern) for pattern in found.denylist)


def sample(tree):
    """A random text of a regular expression's language, letters chosen evenly, as those of real keys are."""
    from re import _constants as c

    ascii_ = string.ascii_letters + string.digits + "-_+/="

    def one(op, arg):
        if op is c.LITERAL:
            return chr(arg)
        if op in (c.ANY, c.NOT_LITERAL):
            return chance.choice(ascii_[:62])
        if op is c.IN:
            return chance.choice(options(arg))
        if op in (c.MAX_REPEAT, c.MIN_REPEAT):
            low, high, inner = arg
            return "".join(sample(inner) for _ in range(chance.randint(low, min(high, max(low, 24)))))
        if op is c.SUBPATTERN:
            return sample(arg[3])
        if op is c.BRANCH:
            return sample(chance.choice(arg[1]))
        assert op in (c.AT, c.ASSERT, c.ASSERT_NOT), op
        return ""

    def options(items):
        negated = items[0][0] is c.NEGATE
        found = set()
        for op, arg in items:
            if op is c.LITERAL:
                found.add(chr(arg))
            elif op is c.RANGE:
                found |= {chr(n) for n in range(arg[0], min(arg[1], 126) + 1)}
            elif op is c.CATEGORY and arg is c.CATEGORY_DIGIT:
                found |= set(string.digits)
            elif op is c.CATEGORY and arg is c.CATEGORY_WORD:
                found |= set(string.ascii_letters + string.digits + "_")
            elif op is c.CATEGORY and arg is c.CATEGORY_SPACE:
                found.add(" ")
        return sorted(set(ascii_[:62]) - found if negated else found)

    return "".join(one(op, arg) for op, arg in tree)


@pytest.mark.parametrize(
    ("name", "pattern"), list(patterns_of_detect_secrets()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_what_detect_secrets_finds_by_shape_is_found(name, pattern):
    """Its vendor patterns (but for four that are an assignment to any vendor's name, and public IP addresses)."""
    from re import _parser

    tried = 0
    for _ in range(200):
        text = sample(_parser.parse(pattern.pattern, pattern.flags))
        assert pattern.search(text) or name in ("NpmDetector", "ArtifactoryDetector")
        if name == "PrivateKeyDetector":
            text = f"-----{text}-----\n{letters(64)}\n-----END"
            if "PuTTY" in text:
                text = f"PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\n{letters(64)}\nPrivate-MAC: 1"
        if name == "BasicAuthDetector":
            text = f"https{text}db.test"
        key = max(re.findall(r"[A-Za-z0-9_+/.-]+", text), key=len)
        if name == "SlackDetector" and len(text.rpartition("services")[2]) < 24:
            continue
        if len(key) < 18 and name not in ("BasicAuthDetector", "JwtTokenDetector", "SlackDetector"):
            continue  # shorter than any vendor's real key
        if (name == "ArtifactoryDetector" and not re.search(r"\d", text)) or (
            name == "NpmDetector" and "=npm_" in text.replace(" ", "")
        ):
            continue  # APActivationPayload is a word of ordinary code; the second matches any word after npm_
        if name == "JwtTokenDetector":
            text = f"eyJ{letters(20)}.eyJ{letters(20)}.{letters(20)}"  # its own pattern takes any dotted words
        if name == "BasicAuthDetector" and len(text.split(":")[-1].split("@")[0]) < 3:
            continue
        tried += 1
        assert find_secrets(f"x {text} y\n"), text
    assert tried > 5


@given(st.text(max_size=300))
def test_masking_and_restoring_are_inverse(text):
    masks = Masks()
    whole = f"{text}\ntoken = '{SEEDS['gitlab']}'\n"
    assert masks.restored(masks.masked(whole), whole) == whole


@given(st.text(max_size=100))
def test_escaping_and_undoing_it_are_inverse_but_for_texts_that_hold_escapes(text):
    if "\\" not in text:
        assert unescape_hidden(escape_hidden(text), text) == text


def test_a_search_does_not_tell_a_secret_letter_by_letter(folder):
    lay(folder, {"k.py": f"API_KEY = '{NAMED['api_key']}'\nx = 1\n"})
    from kit import play

    right = f"API_KEY = '{NAMED['api_key'][:3]}"
    _, events, _ = play(
        folder,
        [call("search", pattern=right), call("search", pattern="API_KEY"), call("search", pattern="x = "), finish()],
    )
    texts = [text for _, text in results(events)]
    assert "Nothing" in texts[0]
    assert PREFIX in texts[1]
    assert texts[2].splitlines()[0] == "k.py:2: x = 1"
