"""One thin module for each LSP method: from a snapshot of the server to an answer."""
