// The VS Code client: starts the server, and gives its commands an input box, a diff view, keys and a status bar.
// All review state is the server's; what is kept here is the last proposal notification of each run.
import * as path from "node:path";
import * as vscode from "vscode";
import { LanguageClient, type LanguageClientOptions, State, type ServerOptions } from "vscode-languageclient/node";
import { type Hunk, type Node, type Proposal, ProposalTree, UNDECIDED } from "./tree";

interface Status {
  model: string;
  state: string;
  tokens: number;
  costUsd: number;
}

let client: LanguageClient | undefined;
let statusBar: vscode.StatusBarItem;
let status: Status | undefined;
let doing = "";
const proposals = new Map<string, Proposal>();
const tree = new ProposalTree(() => [...proposals.values()].filter((proposal) => proposal.state === "pending").reverse());

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  statusBar = vscode.window.createStatusBarItem("redline", vscode.StatusBarAlignment.Right, 10);
  statusBar.name = "Redline";
  context.subscriptions.push(statusBar);
  context.subscriptions.push(vscode.window.registerTreeDataProvider("redline.proposals", tree));
  const commands: Record<string, (node?: Node) => Promise<unknown>> = {
    "redline.ui.ask": () => ask(),
    "redline.ui.askInBackground": () => ask(true),
    "redline.ui.acceptHunk": (node) => decide("redline.accept", node),
    "redline.ui.rejectHunk": (node) => decide("redline.reject", node),
    "redline.ui.reviseHunk": revise,
    "redline.ui.reveal": reveal,
    "redline.ui.acceptAll": (node) => decideAll("redline.accept", node),
    "redline.ui.rejectAll": (node) => decideAll("redline.reject", node),
    "redline.ui.nextHunk": nextHunk,
    "redline.ui.showDiff": showDiff,
    "redline.ui.cancel": cancel,
    "redline.ui.revert": revert,
    "redline.ui.setModel": setModel,
    "redline.ui.trust": trust,
    "redline.ui.doctor": doctor,
    "redline.ui.restart": restart,
  };
  for (const [name, run] of Object.entries(commands)) {
    context.subscriptions.push(vscode.commands.registerCommand(name, (node?: Node) => guarded(() => run(node))));
  }
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("redline.command") || event.affectsConfiguration("redline.model")) {
        void guarded(restart);
      }
    }),
  );
  await guarded(start);
}

export async function deactivate(): Promise<void> {
  await client?.stop();
}

async function guarded(run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    void vscode.window.showErrorMessage(`Redline: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** A setting as the user gave it: a workspace must not name programs or models. */
function own<T>(name: string, fallback: T): T {
  const found = vscode.workspace.getConfiguration("redline").inspect<T>(name);
  return found?.globalValue ?? found?.defaultValue ?? fallback;
}

async function start(): Promise<void> {
  const [command, ...args] = own<string[]>("command", ["redline", "serve"]);
  if (!command) {
    throw new Error("the setting redline.command is empty; give the program, as in [\"redline\", \"serve\"]");
  }
  const server: ServerOptions = { command, args, options: { cwd: vscode.workspace.workspaceFolders?.[0]?.uri.fsPath } };
  const options: LanguageClientOptions = {
    documentSelector: [{ scheme: "file" }],
    initializationOptions: { redline: { client: true, model: own("model", ""), limits: own("limits", {}), permissions: own("permissions", {}) } },
    outputChannelName: "Redline",
    synchronize: { fileEvents: vscode.workspace.createFileSystemWatcher("**/*") },
    markdown: { isTrusted: false, supportHtml: false },
  };
  client = new LanguageClient("redline", "Redline", server, options);
  client.onNotification("redline/proposal", onProposal);
  client.onNotification("redline/status", (next: Status) => {
    status = next;
    doing = next.state === "running" ? doing || "working" : "";
    showStatus();
  });
  client.onNotification("redline/session", (news: { event: { type: string; title?: string } }) => {
    if (news.event.type === "tool_started" && news.event.title) {
      doing = news.event.title;
      showStatus();
    }
  });
  client.onRequest("redline/permission", askForLeave);
  client.onDidChangeState((event) => {
    if (event.newState === State.Stopped) {
      proposals.clear();
      tree.refresh();
      doing = "";
      showStatus();
    }
  });
  try {
    await client.start();
  } catch (error) {
    showStatus();
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`the server did not start (${command}): ${reason}. Install Redline, or set redline.command.`);
  }
  showStatus();
}

async function restart(): Promise<void> {
  await client?.stop().catch(() => undefined);
  await client?.dispose().catch(() => undefined);
  await start();
}

async function send<T>(command: string, argument: object): Promise<T> {
  if (!client?.isRunning()) {
    throw new Error("the server is not running; use “Redline: Restart Server”");
  }
  return client.sendRequest<T>("workspace/executeCommand", { command, arguments: [argument] });
}

/** What of a proposal is in one of some states: hunks and file operations. */
function items(proposal: Proposal, states = ["pending"]): { id: string; uri: string; state: string }[] {
  return [...proposal.hunks, ...proposal.fileOperations].filter((item) => states.includes(item.state));
}

function pending(states = ["pending"]): Proposal[] {
  return [...proposals.values()].filter((proposal) => items(proposal, states).length > 0);
}

function onProposal(proposal: Proposal): void {
  proposals.set(proposal.runId, proposal);
  tree.refresh();
  void vscode.commands.executeCommand("setContext", "redline.pending", pending(UNDECIDED).length > 0);
  showStatus();
}

function showStatus(): void {
  statusBar.show();
  if (!client?.isRunning()) {
    statusBar.text = "$(warning) Redline is off";
    statusBar.tooltip = "Redline: the server is not running; click to start it";
    statusBar.command = "redline.ui.restart";
    return;
  }
  const left = pending().flatMap((proposal) => items(proposal)).length;
  const idle = left ? `$(diff) Redline: ${left} pending` : "$(edit) Redline";
  statusBar.text = doing ? `$(sync~spin) Redline: ${doing}` : idle;
  statusBar.command = doing ? "redline.ui.cancel" : left ? "redline.ui.nextHunk" : "redline.ui.ask";
  const used = status ? `${status.model}, ${status.tokens.toLocaleString()} tokens, $${status.costUsd.toFixed(4)}` : "ready";
  statusBar.tooltip = `Redline: ${used}`;
}

async function ask(background = false): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  const instruction = await vscode.window.showInputBox({
    title: background ? "Redline: what should change, also when the editor is closed?" : "Redline: what should change?",
    placeHolder: "rename foo to bar · remove unused · organise imports · or anything, with a model's key",
    prompt: editor ? path.basename(editor.document.fileName) : "the whole workspace",
    ignoreFocusOut: true,
  });
  if (!instruction?.trim()) {
    return;
  }
  const argument: Record<string, unknown> = { instruction, background };
  if (editor && client) {
    argument.uri = client.code2ProtocolConverter.asUri(editor.document.uri);
    if (!editor.selection.isEmpty) {
      argument.range = client.code2ProtocolConverter.asRange(editor.selection);
    }
  }
  await send("redline.run", argument);
}

/** The hunks of the active file in some states, in order, each with its run. */
function hunksHere(states = ["pending"]): { proposal: Proposal; hunk: Hunk }[] {
  const editor = vscode.window.activeTextEditor;
  const here = editor && client?.code2ProtocolConverter.asUri(editor.document.uri);
  return [...proposals.values()]
    .flatMap((proposal) => proposal.hunks.map((hunk) => ({ proposal, hunk })))
    .filter(({ hunk }) => states.includes(hunk.state) && hunk.uri === here)
    .sort((a, b) => a.hunk.range.start.line - b.hunk.range.start.line);
}

/** The hunk of a tree item, else the one at the cursor, a pending one before a conflicted one. */
function chosen(node?: Node): { proposal: Proposal; hunk: Hunk } {
  if (node?.hunk) {
    return { proposal: node.proposal, hunk: node.hunk };
  }
  const line = vscode.window.activeTextEditor?.selection.active.line ?? 0;
  const found = [...hunksHere(), ...hunksHere(UNDECIDED)].find(
    ({ hunk }) => hunk.range.start.line <= line && line <= Math.max(hunk.range.start.line, hunk.range.end.line - 1),
  );
  if (!found) {
    throw new Error("there is no hunk at the cursor; “Redline: Go to Next Hunk” finds one");
  }
  return found;
}

async function decide(command: string, node?: Node): Promise<void> {
  const { proposal, id } = node?.operation ? { ...node, id: node.operation.id } : { ...chosen(node), id: chosen(node).hunk.id };
  await send(command, { runId: proposal.runId, hunks: [id] });
}

/** A word on a hunk or file operation: the agent makes another one of it. */
async function revise(node?: Node): Promise<void> {
  const { proposal, item } = node?.operation ? { ...node, item: node.operation } : { ...chosen(node), item: chosen(node).hunk };
  const text = await vscode.window.showInputBox({ title: `Redline: what should be different in ${item.id}?`, prompt: item.reason, ignoreFocusOut: true });
  if (text?.trim()) {
    await send("redline.revise", { runId: proposal.runId, hunk: item.id, text });
  }
}

async function reveal(node?: Node): Promise<void> {
  if (node?.operation) {
    await showDiffs(node.proposal, node.operation.uri);
    return;
  }
  const { hunk } = chosen(node);
  const at = new vscode.Position(hunk.range.start.line, hunk.range.start.character);
  await vscode.window.showTextDocument(vscode.Uri.parse(hunk.uri), { selection: new vscode.Range(at, at), preview: true });
}

async function decideAll(command: string, node?: Node): Promise<void> {
  for (const proposal of node ? [node.proposal] : pending()) {
    const answer = await send<{ skipped?: string[] }>(command, { runId: proposal.runId, hunks: "all" });
    if (answer.skipped?.length) {
      void vscode.window.showInformationMessage(`Redline: ${answer.skipped.join(", ")} run later; accept them one by one.`);
    }
  }
}

async function nextHunk(): Promise<void> {
  const line = vscode.window.activeTextEditor?.selection.active.line ?? -1;
  const here = hunksHere(UNDECIDED).map(({ hunk }) => hunk);
  const all = pending().flatMap((proposal) => proposal.hunks).filter((hunk) => hunk.state === "pending");
  const next = here.find((hunk) => hunk.range.start.line > line) ?? all.find((hunk) => !here.includes(hunk)) ?? here[0];
  if (!next) {
    if (!pending().length) {
      throw new Error("nothing is pending");
    }
    await vscode.commands.executeCommand("redline.proposals.focus");
    return;
  }
  const at = new vscode.Position(next.range.start.line, next.range.start.character);
  await vscode.window.showTextDocument(vscode.Uri.parse(next.uri), { selection: new vscode.Range(at, at) });
}

async function showDiff(): Promise<void> {
  const found = hunksHere()[0];
  const proposal = found?.proposal ?? pending()[0];
  if (!proposal) {
    throw new Error("nothing is pending");
  }
  await showDiffs(proposal, found?.hunk.uri);
}

/** Show each file of a proposal (or one) beside what is proposed for it. */
async function showDiffs(proposal: Proposal, uri?: string): Promise<void> {
  const argument = { runId: proposal.runId, ...(uri ? { uri } : {}) };
  const shown = await send<{ files: { uri: string; proposedUri: string; originalUri?: string }[] }>("redline.showDiff", argument);
  for (const file of shown.files) {
    const original = vscode.Uri.parse(file.originalUri ?? file.uri);
    const title = `${path.basename(vscode.Uri.parse(file.uri).fsPath)} ↔ proposed`;
    await vscode.commands.executeCommand("vscode.diff", original, vscode.Uri.parse(file.proposedUri), title, { preview: false });
  }
}

async function cancel(): Promise<void> {
  const runs = await send<{ runId: string; outcome: string | null }[]>("redline.runs", {});
  for (const run of runs.filter((one) => one.outcome === null)) {
    await send("redline.cancel", { runId: run.runId });
  }
}

async function revert(): Promise<void> {
  const last = pending(["accepted"]).reverse()[0];
  if (!last) {
    throw new Error("nothing was accepted yet");
  }
  await send("redline.revertRun", { runId: last.runId });
}

async function setModel(): Promise<void> {
  const model = await vscode.window.showInputBox({ title: "Redline: model", value: status?.model ?? "", prompt: "provider:model, or builtin" });
  if (model) {
    await send("redline.setModel", { model });
  }
}

interface Leave {
  what: string;
  why: string;
  answers: string[];
}

/** Asks in a dialog that must be answered; leaving it, and the button that Enter presses, mean no. */
async function askForLeave(leave: Leave): Promise<{ decision: string }> {
  const titles: Record<string, string> = {
    deny: "Deny",
    once: "Allow Once",
    session: "Allow for This Session",
    always: "Always Allow in This Folder",
  };
  const items = leave.answers.map((decision) => ({ title: titles[decision] ?? decision, decision }));
  const chosen = await vscode.window.showWarningMessage(`Redline asks for leave to ${leave.what}`, { modal: true, detail: leave.why }, ...items);
  return { decision: chosen?.decision ?? "deny" };
}

async function trust(): Promise<void> {
  const folder = vscode.workspace.workspaceFolders?.[0];
  if (!folder || !client) {
    throw new Error("no folder is open");
  }
  const yes = "Trust Folder";
  const detail = "Its commands and tests may then be run by the agent, in a sandbox without network where there is one. Nothing is written to your files until you accept it.";
  if ((await vscode.window.showWarningMessage(`Let Redline run commands of ${folder.name}?`, { modal: true, detail }, yes)) === yes) {
    await send("redline.trust", { uri: client.code2ProtocolConverter.asUri(folder.uri) });
  }
}

async function doctor(): Promise<void> {
  const checks = await send<{ name: string; ok: boolean | null; detail: string }[]>("redline.doctor", {});
  const channel = client?.outputChannel;
  for (const check of checks) {
    channel?.appendLine(`${check.ok === false ? "NO" : check.ok ? "ok" : "--"}  ${check.name}: ${check.detail}`);
  }
  channel?.show(true);
}
