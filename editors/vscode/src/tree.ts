// The list of proposals as a tree: proposal, file, hunk. It shows what the server said last and keeps nothing else.
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

export interface Proposal {
  runId: string;
  instruction: string;
  state: string;
  hunks: Hunk[];
}

export type Node = { proposal: Proposal; uri?: string; hunk?: Hunk };

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
    if (node.hunk) {
      return [];
    }
    if (uri) {
      return proposal.hunks.filter((hunk) => hunk.uri === uri).map((hunk) => ({ proposal, uri, hunk }));
    }
    return [...new Set(proposal.hunks.map((hunk) => hunk.uri))].map((each) => ({ proposal, uri: each }));
  }

  getTreeItem(node: Node): vscode.TreeItem {
    const { proposal, uri, hunk } = node;
    if (hunk) {
      const item = new vscode.TreeItem(`${hunk.id}: ${hunk.reason}`);
      item.description = hunk.state === "pending" ? hunk.badge : hunk.state;
      item.iconPath = new vscode.ThemeIcon(ICONS[hunk.state] ?? "circle-outline");
      const needs = hunk.dependsOn.length ? [`needs ${hunk.dependsOn.join(", ")}`] : [];
      item.tooltip = [hunk.reason, ...needs, ...hunk.proof.map((each) => `${each.check}: ${each.state}, ${each.detail}`)].join("\n");
      item.contextValue = hunk.state === "pending" ? "hunk.pending" : "hunk";
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
    const left = proposal.hunks.filter((each) => each.state === "pending").length;
    item.description = left ? `${left} pending` : proposal.state;
    item.iconPath = new vscode.ThemeIcon("diff");
    item.contextValue = left ? "proposal.pending" : "proposal";
    return item;
  }
}
