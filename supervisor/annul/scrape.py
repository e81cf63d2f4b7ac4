"""Answering HTTP on a loopback port, in a thread of its own, one request at a time.

The thread waits in the kernel: between two requests nothing wakes up. A client that sends nothing is dropped after a
few seconds, so it keeps only other scrapes waiting, and never the loop.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

_CLIENT_S = 5.0  # for a client to send its request, and to take the answer
_END_S = 2.0  # for the thread to notice that it is over

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing is logged: a scrape is no action of the daemon."""


class _Server(WSGIServer):
    def server_bind(self) -> None:
        """Without HTTPServer's question to the resolver what the host is called, which may take its time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or sent nonsense, is its own trouble."""


class Scrape:
    """Serves one WSGI application from when it is made until it is closed."""

    def __init__(self, where: tuple[str, int], app: WsgiApp) -> None:
        """Raises OSError where the port is taken."""
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        kind = type("_Server", (_Server,), {"address_family": family})
        self._server = kind(where, _Handler)
        self._server.set_app(app)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{f'[{host}]' if ':' in str(host) else host}:{port}/metrics"

    def _serve(self) -> None:
        while not self._closing:
            self._server.handle_request()  # waits without a time-out, unlike serve_forever, which looks twice a second

    def close(self) -> None:
        """Free the port."""
        self._closing = True
        try:
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread; closing alone would not
        except OSError:
            pass  # not every kernel shuts down what listens
        self._thread.join(_END_S)
        self._server.server_close()
