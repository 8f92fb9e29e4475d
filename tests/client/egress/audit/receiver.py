"""A receiver of anchors on loopback, with TLS or without, that can refuse or lose them."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.integration.setup.gate_setting import make_certificates


@dataclass
class Receiver:
    """Received anchors, and the response to the next ones.

    Attributes:
        url: its address.
        got: the bodies it has kept.
        status: HTTP status of its responses; 0 = break the connection off after keeping the body.
    """

    url: str = ""
    got: list[bytes] = field(default_factory=list)
    status: int = 204

    def file(self, path: Path) -> Path:
        """Write what was kept as a file of anchors."""
        path.write_bytes(b"".join(self.got))
        return path


@contextmanager
def receiver(folder: Path, *, tls: bool = True, host: str = "localhost") -> Iterator[Receiver]:
    """Run it for as long as the block lasts.

    Args:
        folder: where its certificate is written, which is for localhost; its CA is ca.crt there.
        tls: whether it speaks TLS.
        host: where it listens.
    """
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if made.status < 300:
                made.got.append(body)
            if made.status == 0:
                self.close_connection = True
                return
            self.send_response(made.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    if tls:
        make_certificates(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"http{'s' * tls}://{host}:{server.server_port}/anchors?site=hosp1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
