// The list of proposals as a tree: proposal, file, hunk; files that are made, deleted or moved beside them. It shows what the server said last and keeps nothing else.
import * as path from "node:path";
import * as vscode from "vscode";

export interface Hunk {
  id: string;
  uri: string;
  range: { start: { line: number; character: number }; end: { line: number; character: number } };
  reason: string;
  state: string;
  dependsOn: string[];
  badge?: string;
  proof: { check: string; state: string; ok: boolean | null; detail: string }[];
}

export interface FileOperation {
  id: string;
  kind: "create" | "delete" | "rename" | "mode";
  executable?: boolean;
  uri: string;
  newUri?: string;
  reason: string;
  state: string;
  badge?: string;
}

export interface Proposal {
  runId: string;
  instruction: string;
  state: string;
  hunks: Hunk[];
  fileOperations: FileOperation[];
}

export type Node = { proposal: Proposal; uri?: string; hunk?: Hunk; operation?: FileOperation };

/** States in which an item can still be rejected. */
export const UNDECIDED = ["pending", "conflicted", "stale"];

const ICONS: Record<string, string> = {
  pending: "circle-outline",
  applying: "sync",
  accepted: "check",
  unconfirmed: "question",
  rejected: "x",
  conflicted: "warning",
  stale: "history",
  undone: "discard",
};

export class ProposalTree implements vscode.TreeDataProvider<Node> {
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChangeTreeData = this.changed.event;

  constructor(private readonly proposals: () => Proposal[]) {}

  refresh(): void {
    this.changed.fire();
  }

  getChildren(node?: Node): Node[] {
    if (!node) {
      return this.proposals().map((proposal) => ({ proposal }));
    }
    const { proposal, uri } = node;
    if (node.hunk || node.operation) {
      return [];
    }
    if (uri) {
      return proposal.hunks.filter((hunk) => hunk.uri === uri).map((hunk) => ({ proposal, uri, hunk }));
    }
    const files = [...new Set(proposal.hunks.map((hunk) => hunk.uri))];
    return [...files.map((each) => ({ proposal, uri: each })), ...proposal.fileOperations.map((operation) => ({ proposal, operation }))];
  }

  getTreeItem(node: Node): vscode.TreeItem {
    const { proposal, uri, hunk, operation } = node;
    if (hunk) {
      const item = new vscode.TreeItem(`${hunk.id}: ${hunk.reason}`);
      item.description = hunk.state === "pending" ? hunk.badge : hunk.state;
      item.iconPath = new vscode.ThemeIcon(ICONS[hunk.state] ?? "circle-outline");
      const needs = hunk.dependsOn.length ? [`needs ${hunk.dependsOn.join(", ")}`] : [];
      item.tooltip = [hunk.reason, ...needs, ...hunk.proof.map((each) => `${each.check}: ${each.state}, ${each.detail}`)].join("\n");
      item.contextValue = `hunk.${hunk.state}`;
      item.command = { command: "redline.ui.reveal", title: "Show", arguments: [node] };
      return item;
    }
    if (operation) {
      const name = (each: string) => vscode.workspace.asRelativePath(vscode.Uri.parse(each));
      const to = operation.newUri ? ` to ${name(operation.newUri)}` : "";
      const mode = operation.executable ? "make executable" : "make not executable";
      const what = operation.kind === "mode" ? mode : operation.kind;
      const item = new vscode.TreeItem(`${operation.id}: ${what} ${name(operation.uri)}${to}`);
      item.description = operation.state === "pending" ? operation.badge : operation.state;
      item.iconPath = new vscode.ThemeIcon(ICONS[operation.state] ?? "circle-outline");
      item.tooltip = operation.reason;
      item.contextValue = `file.${operation.state}`;
      item.command = { command: "redline.ui.reveal", title: "Show", arguments: [node] };
      return item;
    }
    if (uri) {
      const file = vscode.Uri.parse(uri);
      const item = new vscode.TreeItem(path.basename(file.fsPath), vscode.TreeItemCollapsibleState.Expanded);
      item.resourceUri = file;
      item.description = vscode.workspace.asRelativePath(file);
      return item;
    }
    const item = new vscode.TreeItem(proposal.instruction.split("\n")[0] ?? "", vscode.TreeItemCollapsibleState.Expanded);
    const left = [...proposal.hunks, ...proposal.fileOperations].filter((each) => each.state === "pending").length;
    item.description = left ? `${left} pending` : proposal.state;
    item.iconPath = new vscode.ThemeIcon("diff");
    item.contextValue = left ? "proposal.pending" : "proposal";
    return item;
  }
}
