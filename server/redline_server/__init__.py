"""Redline's language server: the protocol's side. It drives `redline_agent`, which knows nothing of it."""
