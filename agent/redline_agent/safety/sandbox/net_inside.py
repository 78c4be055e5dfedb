"""Opens the sandbox's one way out: a listener on its own loopback, handed to Redline, which answers it as a proxy.

Run as a script inside the sandbox, before the command: FD is a socket to Redline, the rest the command. The sandbox
has no
other network, and the command has no say in what the proxy lets through.
"""

from __future__ import annotations

import os
import socket
import sys

PORT = 3128


def main() -> None:
    """Hand the listener over and become the command."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    listener = socket.create_server(("127.0.0.1", PORT), backlog=64)
    socket.send_fds(channel, [b"x"], [listener.fileno()])
    channel.close()
    listener.close()
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606


if __name__ == "__main__":
    main()
