"""What users add: tools of MCP servers."""
