// Drives VS Code (code-server) in headless Chromium. Prints one line a step; exit code 1 when any failed.
const { chromium } = require("playwright-core");
const assert = require("node:assert");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const { WS, PORT, CHROMIUM, SHOTS, ASKING, FIRST, SECOND, FILES } = process.env;
const A = fs.readFileSync(`${WS}/a.py`, "utf8");
const B = fs.readFileSync(`${WS}/b.py`, "utf8");
const MOD = process.platform === "darwin" ? "Meta" : "Control";

(async () => {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), "redline-chromium-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    viewport: { width: 1280, height: 720 },
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    ],
  });
  const page = context.pages()[0] || (await context.newPage());
  let failed = 0;
  const shot = (name) => page.screenshot({ path: `${SHOTS}/${name}.png` });
  const step = async (name, run) => {
    if (failed) return;
    try {
      await run();
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${String(error).slice(0, 1500)}`);
      await shot(`failed-${name.replace(/\W+/g, "-")}`);
    }
  };
  const until = async (what, condition, seconds = 30) => {
    const end = Date.now() + seconds * 1000;
    for (;;) {
      const value = await condition();
      if (value) return value;
      if (Date.now() > end) throw new Error(`it did not come true: ${what}`);
      await page.waitForTimeout(100);
    }
  };
  const text = () =>
    page.evaluate(() =>
      [...document.querySelectorAll(".editor-instance .view-lines .view-line")]
        .map((line) => [parseInt(line.style.top, 10), line.textContent])
        .sort((a, b) => a[0] - b[0])
        .map((pair) => pair[1].replace(/\u00a0/g, " "))
        .join("\n"),
    );
  const command = async (title) => {
    for (let tries = 3; ; tries -= 1) {  // what opens a file meanwhile takes the focus, and closes the list
      try {
        await page.keyboard.press("F1");
        await page.locator(".quick-input-widget input[type=text]:visible").first().fill(`>${title}`, { timeout: 10000 });
        return await page.locator(".quick-input-list .monaco-list-row", { hasText: title }).first().click({ timeout: 10000 });
      } catch (error) {
        if (!tries) throw error;
        await page.keyboard.press("Escape");
      }
    }
  };
  const lens = (title) => page.locator(".codelens-decoration a", { hasText: title });
  const focus = () => page.locator(".editor-instance .view-line").first().click({ position: { x: 5, y: 8 } });

  await step("the workbench opens the file", async () => {
    await page.goto(`http://127.0.0.1:${PORT}/?folder=${WS}`, { waitUntil: "domcontentloaded" });
    await page.locator(".monaco-workbench").waitFor({ timeout: 90000 });
    await page.locator(".explorer-folders-view .monaco-list-row", { hasText: "a.py" }).first().dblclick({ timeout: 60000 });
    await page.locator(".editor-instance .view-line", { hasText: "foo" }).first().waitFor();
    await page.locator(".statusbar-item", { hasText: /^\s*Redline\s*$/ }).first().waitFor({ timeout: 60000 });
  });
  await step("ask by the input box, and watch progress", async () => {
    await page.evaluate(() => {
      window.seenStatus = [];
      const bar = document.querySelector(".statusbar");
      new MutationObserver(() => window.seenStatus.push(bar.textContent)).observe(bar, { subtree: true, childList: true, characterData: true });
    });
    await focus();
    await command("Redline: Ask for a Change");
    const box = page.locator(".quick-input-widget input[type=text]:visible").first();
    await until("the input box", async () => (await page.locator(".quick-input-title").first().textContent())?.includes("what should change"));
    await box.fill("rename foo to bar; remove unused");
    await page.keyboard.press("Enter");
    await lens("Accept h1").first().waitFor({ timeout: 60000 });
    const seen = await page.evaluate(() => window.seenStatus);
    assert(seen.some((one) => /Redline: (rename foo|Renaming foo|working)|Renaming foo/.test(one)), `no progress in ${JSON.stringify(seen.slice(-5))}`);
    await until("the count", async () => (await page.locator(".statusbar").textContent()).includes("5 pending"));
  });
  await step("a pending proposal to look at", async () => {
    await page.locator(".notifications-toasts .codicon-notifications-clear").first().click({ timeout: 2000 }).catch(() => {});
    await page.keyboard.press("Escape");
    await page.mouse.move(640, 500);
    await page.waitForTimeout(800);
    await shot("pending-proposal");
  });
  await step("accept one hunk", async () => {
    await lens("Accept h1").first().click();
    await until("the accept", async () => !(await text()).includes("import os"));
    await lens("Accept h1").first().waitFor({ state: "detached" });
  });
  await step("reject another by its key", async () => {
    await until("the lens", async () => (await lens("Accept h2").count()) > 0);
    await page.locator(".editor-instance .view-line", { hasText: "def foo" }).first().click();
    await page.keyboard.press(`${MOD}+Alt+n`);
    await lens("Reject h2").first().waitFor({ state: "detached" });
    assert((await text()).includes("def foo(x):"));
  });
  await step("undo is one step, byte for byte", async () => {
    await focus();
    await page.keyboard.press(`${MOD}+z`);
    await until("the undo", async () => (await text()).includes("import os"));
    await page.keyboard.press(`${MOD}+s`);
    await page.waitForTimeout(700);
    assert.equal(fs.readFileSync(`${WS}/a.py`, "utf8"), A);
  });
  await step("the second server goes on working", async () => {
    await page.locator(".editor-instance .view-line", { hasText: "import sys" }).first().click();
    await command("Show or Focus Hover");
    await page.locator(".monaco-hover:visible", { hasText: "OTHER v" }).first().waitFor({ timeout: 15000 });
    await page.keyboard.press("Escape");
  });
  await step("the diff view", async () => {
    await focus();
    await command("Redline: Show Diff of This File");
    await page.locator(".monaco-diff-editor .editor.modified .view-line", { hasText: "bar" }).first().waitFor({ timeout: 20000 });
    await page.waitForTimeout(500);
    await shot("diff");
    await command("View: Close Editor");
  });
  await step("accept the rest, in files that are not open too", async () => {
    await focus();
    await command("Redline: Accept All Pending Hunks");
    await until("the end", async () => !(await page.locator(".statusbar").textContent()).includes("pending"));
    await command("File: Save All Files").catch(() => {});
    await until("b.py", async () => fs.readFileSync(`${WS}/b.py`, "utf8") === B.replace(/foo/g, "bar"), 15);
    assert.equal(fs.readFileSync(`${WS}/a.py`, "utf8"), A.replace("print(foo", "print(bar"));
    await shot("accepted");
  });
  const box = page.locator(".quick-input-widget input[type=text]:visible").first();
  const answer = async (title, value) => {
    await until(title, async () => (await page.locator(".quick-input-title").first().textContent())?.includes(title));
    await box.fill(value);
    await page.keyboard.press("Enter");
  };
  const model = async (name) => {
    await command("Redline: Choose Model");
    await answer("model", name);
    await page.waitForTimeout(500);
  };
  await step("a word on a hunk in the list of proposals brings another one", async () => {
    await model(FIRST);
    await command("Redline: Ask for a Change");
    await answer("what should change", "change it");
    await lens("Accept h1").first().waitFor({ timeout: 30000 });
    await model(SECOND);
    await command("Explorer: Focus on Redline: Proposals View");
    const row = page.locator(".tree-explorer-viewlet-tree-view .monaco-list-row", { hasText: "h1: first" }).first();
    await row.hover();
    await shot("proposals");
    await row.locator(".actions a.action-label[aria-label*=Revise]").click();
    await answer("what should be different", "call it value");
    await lens("Accept h1r1").first().waitFor({ timeout: 30000 });
    await lens("Accept h1r1").first().click();
    await until("the revised hunk", async () => (await text()).includes("def foo(value):"));
  });
  await step("what was accepted is reverted", async () => {
    await focus();
    await command("Redline: Revert the Last Run");
    await until("the revert", async () => (await text()).includes("def foo(x):"));
  });
  const change = async () => {
    await command("Redline: Ask for a Change");
    await answer("what should change", "change it");
    await lens("Accept h1").first().waitFor({ timeout: 30000 });
  };
  const row = (title) => page.locator(".tree-explorer-viewlet-tree-view .monaco-list-row", { hasText: title });
  await step("typing in a hunk makes it a conflict, which is dropped from the list", async () => {
    await model(FIRST);
    await change();
    await page.locator(".editor-instance .view-line", { hasText: "def foo(x)" }).first().click();
    await page.keyboard.press("End");
    await page.keyboard.type("  # mine");
    await lens("Accept h1").first().waitFor({ state: "detached", timeout: 15000 });
    const conflict = row("h1: first").filter({ hasText: "conflicted" }).first();
    await conflict.waitFor({ timeout: 15000 });
    await shot("conflict");
    await conflict.hover();
    await conflict.locator(".actions a.action-label[aria-label*=Reject]").click();
    await conflict.waitFor({ state: "detached", timeout: 15000 });
    assert((await text()).includes("def foo(x):  # mine"));
    for (let n = 0; n < 4 && (await text()).includes("# mine"); n += 1) {
      await focus();
      await page.keyboard.press(`${MOD}+z`);
      await page.waitForTimeout(300);
    }
    assert(!(await text()).includes("# mine"));
  });
  await step("what is pending goes along with a file that is renamed", async () => {
    const rename = async (from, to) => {
      await page.locator(".explorer-folders-view .monaco-list-row", { hasText: from }).first().click();
      await page.keyboard.press("F2");
      const field = page.locator(".explorer-folders-view input").first();
      await field.waitFor();
      await field.fill(to);
      await page.keyboard.press("Enter");
      await until(to, async () => fs.existsSync(`${WS}/${to}`) && !fs.existsSync(`${WS}/${from}`));
    };
    await change();
    await rename("a.py", "renamed.py");
    await page.locator(".tab.active", { hasText: "renamed.py" }).first().waitFor();
    await lens("Accept h1").first().waitFor({ timeout: 15000 });
    await page.locator(".tree-explorer-viewlet-tree-view .monaco-list-row", { hasText: "renamed.py" }).first().waitFor();
    await shot("renamed");
    await lens("Accept h1").first().click();
    await until("the accept", async () => (await text()).includes("def foo(y):"));
    await focus();
    await page.keyboard.press(`${MOD}+z`);
    await until("the undo", async () => (await text()).includes("def foo(x):"));
    await rename("renamed.py", "a.py");
    await page.locator(".tab.active", { hasText: /^a\.py/ }).first().waitFor();
    await focus();
  });
  await step("a new file that runs later is shown and accepted from the list", async () => {
    await model(FILES);
    await command("Redline: Ask for a Change");
    await answer("what should change", "add tests");
    await command("Explorer: Focus on Redline: Proposals View");
    const made = row("create conftest.py").first();
    await made.waitFor({ timeout: 30000 });
    await made.click();
    await page.locator(".monaco-diff-editor .editor.modified .view-line", { hasText: "x = 1" }).first().waitFor({ timeout: 20000 });
    await shot("new-file");
    await command("View: Close Editor");
    assert(!fs.existsSync(`${WS}/conftest.py`));
    await made.hover();
    await made.locator(".actions a.action-label[aria-label*=Accept]").click();
    await until("the file", async () => fs.existsSync(`${WS}/conftest.py`));
    await page.waitForTimeout(500);
    await command("File: Save All Files").catch(() => {});
    await until("its text", async () => fs.readFileSync(`${WS}/conftest.py`, "utf8") === "x = 1\n", 15);
  });
  await step("a pending proposal is there again when the window was loaded anew", async () => {
    await page.locator(".explorer-folders-view .monaco-list-row", { hasText: "a.py" }).first().dblclick();
    await model(FIRST);
    await change();
    await page.waitForTimeout(1000);
    await page.reload({ waitUntil: "domcontentloaded" });
    await page.locator(".explorer-folders-view .monaco-list-row", { hasText: "a.py" }).first().dblclick({ timeout: 60000 });
    await lens("Accept h1").first().waitFor({ timeout: 90000 });
    await lens("Accept h1").first().click();
    await until("the accept", async () => (await text()).includes("def foo(y):"));
  });
  await step("leave is asked for in a dialog, the safe answer first", async () => {
    await model(ASKING);
    await command("Redline: Ask for a Change");
    await answer("what should change", "read the file beside");
    const dialog = page.locator(".monaco-dialog-box");
    await dialog.waitFor({ timeout: 30000 });
    assert((await dialog.textContent()).includes("asks for leave to read "));
    const buttons = await dialog.locator(".dialog-buttons .monaco-button").allTextContents();
    const offered = ["Allow Once", "Allow for This Session", "Always Allow in This Folder", "Cancel", "Deny"];
    assert.deepEqual(buttons.map((each) => each.trim()).filter(Boolean).sort(), offered);
    assert.equal((await page.evaluate(() => document.activeElement.textContent)).trim(), "Deny");
    await shot("leave");
    await dialog.locator(".monaco-button", { hasText: "Allow Once" }).first().click();
    await until("the end", async () => (await page.locator("body").textContent()).includes("It ended."), 20);
  });
  await context.close();
  fs.rmSync(profile, { recursive: true, force: true });
  process.exit(failed ? 1 : 0);
})().catch((error) => {
  console.error(error);
  process.exit(2);
});
