// A second language server in the same buffer.
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");
let client;
exports.activate = async () => {
  const [command, ...args] = vscode.workspace.getConfiguration("other").get("command");
  client = new LanguageClient("other", "Other", { command, args }, { documentSelector: [{ scheme: "file", language: "python" }] });
  await client.start();
};
exports.deactivate = () => client && client.stop();
