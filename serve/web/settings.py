"""What a server is run with: one typed object, from a file and from flags."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from omni.files import UserError, build_strictly
from serve.realtime import Limits

REMEDY = "see the settings in docs/serving.md"


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """checkpoint: None is the embedded nano. api_keys: any of them opens the door; none: everybody
    on this machine may come in. key_secret: signs short-lived keys; servers with the same one take
    each other's. None: one of its own. allowed_hosts: names by which this server is called, beside
    those of this machine. allowed_origins: pages of other servers that may use it ("https://...").
    insecure: other addresses than this machine's without a key. instructions: whether the model is
    told the session's; auto: if the checkpoint itself has a system message, and so was taught what
    one is. recogniser: "module:function" of a transcriber, [n] float32 at 16 kHz -> text.
    replicas: processes behind the address, each with a model of its own; max_sessions and threads
    are each one's, and threads of None divide the cores. engine: where they run; ray: on the nodes
    of a cluster, where Ray Serve places them, each with `threads` cores (one where it is None) and
    a GPU where there are any. ray_address: of the cluster, or "auto" on one of its nodes; None
    takes RAY_ADDRESS, then a cluster that runs on this machine, and starts one of this machine
    alone if there is none. drain_s: how long what runs may go on once the server is told to end.
    compile: compile the steps before anybody may come.
    """

    checkpoint: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    key_secret: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    insecure: bool = False
    ssl_certificate: str | None = None
    ssl_key: str | None = None
    max_sessions: int = 8
    replicas: int = 1
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    drain_s: float = 30.0
    threads: int | None = None
    device: str = "auto"
    dtype: str | None = None
    compile: bool = False
    instructions: Literal["auto", "always", "never"] = "auto"
    recogniser: str | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UserError(f"port={self.port}: must be 0 to 65535; 0 takes any that is free")
        if self.max_sessions < 1:
            raise UserError(f"max_sessions={self.max_sessions}: must be at least 1")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"threads={self.threads}: must be at least 1")
        if self.replicas < 1:
            raise UserError(f"replicas={self.replicas}: must be at least 1")
        if self.replicas > 1 and not hasattr(socket, "send_fds"):
            raise UserError(f"replicas={self.replicas}: only where Unix sockets are; use 1 here")
        if self.ray_address is not None and self.engine != "ray":
            raise UserError(f"ray_address={self.ray_address}: is for engine: ray")
        if not 0 <= self.drain_s < float("inf"):
            raise UserError(f"drain_s={self.drain_s:g}: must be seconds, 0 or more")
        if any(len(key) < 8 for key in self.api_keys):
            raise UserError("api_keys: one has fewer than 8 characters; choose a longer one")
        if self.key_secret is not None and len(self.key_secret) < 32:
            raise UserError("key_secret: has fewer than 32 characters; choose a longer one")
        if not self.loopback and not self.api_keys and not self.insecure:
            raise UserError(
                f"host={self.host}: others can reach this address, and no API key is set; give "
                "--api-key (or OMNI_API_KEY), or --insecure if everybody may use it"
            )
        if (self.ssl_certificate is None) != (self.ssl_key is None):
            raise UserError("ssl_certificate, ssl_key: give both or none")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_settings(file: Path | None, flags: dict[str, Any]) -> ServeSettings:
    """The settings of a YAML file, if there is one, under flags; a flag of None says nothing.

    Raises UserError for what is no setting, and for values that can't be.
    """
    values: Any = {}
    if file is not None:
        try:
            values = yaml.safe_load(file.read_text()) or {}
        except yaml.YAMLError as error:
            raise UserError(f"{file}: not YAML ({error}); {REMEDY}") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: must map names to values; {REMEDY}")
    given = {name: value for name, value in flags.items() if value is not None}
    return build_strictly(
        ServeSettings, {**values, **given}, where=str(file or "settings"), remedy=REMEDY
    )


def shown(settings: ServeSettings) -> dict[str, Any]:
    """The settings as start-up tells them: keys are counted, not shown."""
    hidden = {"api_keys": len(settings.api_keys), "key_secret": settings.key_secret is not None}
    return asdict(settings) | hidden
