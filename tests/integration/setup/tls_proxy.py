"""A proxy that ends the TLS between sites and SuperLink: it listens, and makes faults."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from pathlib import Path

INTERNAL_ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class TlsProxy:
    """Ends TLS towards the site, speaks TLS to the SuperLink, keeps what the site says.

    Args:
        port: where to listen.
        upstream: the SuperLink's port.
        certificate: by which the proxy plays the coordinator.
        key: its private key.
        ca: who signed the SuperLink's certificate.
    """

    def __init__(self, port: int, upstream: int, certificate: Path, key: Path, ca: Path) -> None:
        self.address = f"localhost:{port}"
        self._upstream = upstream
        self._recorded: list[bytes] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._cut = False
        self._failing: bytes | None = None
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(certificate, key)
        self._client = ssl.create_default_context(cafile=str(ca))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._server)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)

    @property
    def recorded(self) -> bytes:
        """All that the sites have sent so far, decrypted."""
        return b"".join(self._recorded)

    @property
    def failed(self) -> bool:
        """True once the fault requested by `fail_once` has occurred."""
        return self._failing is None

    def cut(self) -> None:
        """Break all connections, and every new one until `mend`."""
        self._cut = True
        self._loop.call_soon_threadsafe(self._abort_all)

    def mend(self) -> None:
        """Pass on again."""
        self._cut = False

    def fail_once(self, path: str) -> None:
        """Answer the next call of a path with HTTP 500, without the SuperLink hearing of it."""
        self._failing = f"POST {path} ".encode()

    def close(self) -> None:
        """Pass nothing on any more."""
        self.cut()
        # A turn later, or the SuperLink would wait for what is still open.
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.1, self._loop.stop)

    async def _serve(self, site: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self._cut:
            back.transport.abort()
            return
        try:
            link, on = await asyncio.open_connection(
                "127.0.0.1", self._upstream, ssl=self._client, server_hostname="localhost"
            )
        except OSError:  # the SuperLink is being started anew
            back.transport.abort()
            return
        self._open |= {back, on}
        await asyncio.gather(self._pass_on(site, on, back), self._pass_back(link, back))
        self._open -= {back, on}

    async def _pass_on(
        self, site: asyncio.StreamReader, on: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await site.read(65536):
                self._recorded.append(data)
                if self._failing is not None and data.startswith(self._failing):
                    self._failing = None
                    back.write(INTERNAL_ERROR)
                    await back.drain()
                    break
                on.write(data)
                await on.drain()
        on.close()

    async def _pass_back(self, link: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await link.read(65536):
                back.write(data)
                await back.drain()
        back.close()

    def _abort_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()
