"""A coordinator on loopback for preflight: a web server with TLS whose clock can be wrong."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from client.config.node_section import Address
from client.config.site_config import ServerSection
from tests.integration.setup.gate_setting import make_certificates

VALID_DAYS = 90


@contextmanager
def coordinator(
    folder: Path,
    *,
    days: int = VALID_DAYS,
    clock_off_s: float | None = 0.0,
    tls: bool = True,
    status: int = 404,
) -> Iterator[ServerSection]:
    """Run it for as long as the block lasts; give the site's `[server]` for it.

    Args:
        folder: where its certificates are written.
        days: how long its certificate is valid still.
        clock_off_s: how far its clock is ahead of this machine's, in seconds; None: it states
            no time.
        tls: whether it speaks TLS at all.
        status: what it answers.
    """
    make_certificates(folder, days)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(status)
            if clock_off_s is not None:
                self.send_header("Date", formatdate(time.time() + clock_off_s, usegmt=True))
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "server.crt", folder / "server.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield ServerSection(
                address=Address("127.0.0.1", server.server_port), ca=folder / "ca.crt"
            )
        finally:
            server.shutdown()
