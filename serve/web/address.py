"""The address that a server listens at."""

from __future__ import annotations

import socket
import ssl

from omni.files import UserError
from serve.web.settings import ServeSettings


def bind(settings: ServeSettings) -> socket.socket:
    """The address, taken, before anything is loaded. Nobody can connect yet.

    Raises OSError, which names it, for one that is taken or not there, and UserError for TLS files
    that can't be used.
    """
    _check_tls(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without, the second of two small messages waits until the client says
    # that it has the first, which it holds back for 40 ms; asyncio sees to it for its own alone.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        door.bind((settings.host, settings.port))
    except OSError as error:
        door.close()
        named = f"{settings.host}:{settings.port}"
        raise OSError(error.errno, error.strerror or str(error), named) from None
    return door


def _check_tls(settings: ServeSettings) -> None:
    """uvicorn reads the files once the model is there, and names neither."""
    if settings.ssl_certificate is None or settings.ssl_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.ssl_certificate, settings.ssl_key
        )
    except OSError as error:  # ssl.SSLError too
        raise UserError(
            f"ssl_certificate={settings.ssl_certificate}, ssl_key={settings.ssl_key}: "
            f"{error.strerror or error}; give a certificate and its own key, both as PEM files"
        ) from None
