"""The server as pytest-lsp's client sees it: a well-behaved editor."""

import sys

import pytest_lsp
from kit import lay
from lsprotocol import types as lsp
from pytest_lsp import ClientServerConfig, LanguageClient, client_capabilities


@pytest_lsp.fixture(config=ClientServerConfig(server_command=[sys.executable, "-m", "redline_server", "serve"]))
async def client(request, lsp_client: LanguageClient, folder):
    lay(folder, {"a.py": "def foo():\n    return 1\n\n\nprint(foo())\n"})
    lsp_client.feature(lsp.WORKSPACE_CODE_LENS_REFRESH)(lambda _: None)
    params = lsp.InitializeParams(capabilities=client_capabilities("visual-studio-code"), root_uri=folder.as_uri())
    params.client_info = lsp.ClientInfo("pytest-lsp")
    params.workspace_folders = [lsp.WorkspaceFolder(uri=folder.as_uri(), name="ws")]
    result = await lsp_client.initialize_session(params)
    lsp_client.result = result
    yield
    await lsp_client.shutdown_session()


async def test_what_it_announces(client: LanguageClient):
    able = client.result.capabilities
    assert able.text_document_sync.change == lsp.TextDocumentSyncKind.Incremental
    assert able.text_document_sync.open_close
    assert able.hover_provider
    assert able.code_lens_provider
    assert "refactor.rewrite.redline" in able.code_action_provider.code_action_kinds
    assert able.diagnostic_provider is None
    assert "redline.run" in able.execute_command_provider.commands


async def test_a_run_to_its_diagnostics(client: LanguageClient, folder):
    uri = (folder / "a.py").as_uri()
    text = (folder / "a.py").read_text()
    item = lsp.TextDocumentItem(uri=uri, language_id="python", version=1, text=text)
    client.text_document_did_open(lsp.DidOpenTextDocumentParams(text_document=item))
    argument = {"instruction": "rename foo to bar", "uri": uri}
    await client.workspace_execute_command_async(lsp.ExecuteCommandParams(command="redline.run", arguments=[argument]))
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert [d.code for d in client.diagnostics[uri]] == ["h1", "h2"]
    assert {d.severity for d in client.diagnostics[uri]} == {lsp.DiagnosticSeverity.Information}
    assert client.progress_reports
