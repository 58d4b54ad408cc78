"""Replicas on the machines of a cluster: Ray Serve places them and starts them anew.

Sound never goes through Ray: each replica listens at a port of its node, and this process hands
out where (session_router.py). Ray Serve's own proxies would stand between, and are not started.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any, Protocol

import uvicorn

from omni.files import UserError
from serve.router.placed import GRACE_S, LOOK_S, PlacedServer
from serve.router.places import Place, Registry
from serve.router.session_router import create_router
from serve.web import Draining, Server, ServeSettings, configuration

log = logging.getLogger(__name__)

NAMESPACE = "omni"
HEALTH_S, HEALTH_TIMEOUT_S = 1.0, 30.0
ASK_S = 5.0  # a registry that has not answered by then is being started anew


class Application(Protocol):
    """What is served behind the address."""

    def deploy(self) -> None:
        """Start the replicas, or each anew, one after the other."""
        ...

    def remove(self) -> None:
        """End them; they drain."""
        ...

    def hurry(self) -> None:
        """Who drains ends at once."""
        ...


def serve_on_cluster(
    settings: ServeSettings, door: socket.socket, *, started: Callable[[list[str]], None]
) -> None:
    """Place the replicas, and hand out their addresses until SIGTERM (they drain) or SIGINT (at
    once); SIGHUP restarts one after the other. started: told what is served.

    Raises UserError if the cluster is out of reach or has no such room, or a replica can't start.
    """
    check_ray_serve()
    connect(settings.ray_address)
    settings = replace(settings, key_secret=settings.key_secret or secrets.token_urlsafe())
    application = RayApplication(settings, door.getsockname()[1])
    signal.signal(signal.SIGTERM, _stop)
    try:
        application.deploy()
        draining = Draining()
        app = create_router(settings, application.places, draining)
        while not (found := asyncio.run(application.places())):  # what they tell is on its way
            time.sleep(LOOK_S)
        server = RouterServer(
            configuration(settings, app), draining, application, settings.drain_s,
            lambda: started(list(found[0].told)),
        )  # fmt: skip
        server.run(sockets=[door])
    finally:
        application.hurry()
        application.remove()


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class RouterServer(Server):
    """`run` it, as a replica's own. What it waits for when it drains are the replicas."""

    def __init__(
        self,
        config: uvicorn.Config,
        draining: Draining,
        application: Application,
        drain_s: float,
        started: Callable[[], None],
    ) -> None:
        super().__init__(
            config, draining, drain_s=drain_s + 2 * GRACE_S, alive=lambda: True, started=started
        )
        self._leaves = draining
        self._application = application
        self._removing: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._restart_wanted = False
        signal.signal(signal.SIGHUP, self._want_restart)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is time to end."""
        if self._leaves.begun and self._removing is None:
            self._removing = asyncio.create_task(asyncio.to_thread(self._application.remove))
            self.server_state.tasks.add(self._removing)
            self._removing.add_done_callback(self.server_state.tasks.discard)
        idle = self._restarting is None or self._restarting.done()
        if self._restart_wanted and idle and not self._leaves.begun:
            self._restart_wanted = False
            self._restarting = asyncio.create_task(self._restart())
        return await super().on_tick(counter)

    def _want_restart(self, number: int, frame: FrameType | None) -> None:
        self._restart_wanted = True

    async def _restart(self) -> None:
        try:
            await asyncio.to_thread(self._application.deploy)
        except UserError as error:  # what serves goes on
            log.error("the replicas could not be restarted: %s", error)


class RayApplication:
    """The replicas as an application of Ray Serve, which bears the router's port in its name: a
    router that is started anew at the same address takes it over."""

    def __init__(self, settings: ServeSettings, port: int) -> None:
        import ray

        self._settings = settings
        self._port = port
        self._name = f"omni-{port}"
        self._removed = False
        check_reach(settings, [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]])
        self._share = share_of(settings, ray.cluster_resources())
        self._registry: Any = (
            ray.remote(Registry)
            .options(
                name=self._name, namespace=NAMESPACE, num_cpus=0, max_restarts=-1,
                max_task_retries=-1, lifetime="detached", get_if_exists=True,
            )
            .remote()
        )  # fmt: skip

    def deploy(self) -> None:
        """Start the replicas, or each anew. Raises UserError if one can't."""
        from ray import serve

        serve.start(proxy_location="Disabled")
        placed = serve.deployment(PlacedServer).options(  # pyright: ignore[reportFunctionMemberAccess]  # made of a class, it is a Deployment
            name="replica", num_replicas=self._settings.replicas, ray_actor_options=self._share,
            health_check_period_s=HEALTH_S, health_check_timeout_s=HEALTH_TIMEOUT_S,
            graceful_shutdown_timeout_s=self._settings.drain_s + 2 * GRACE_S,
            graceful_shutdown_wait_loop_s=0.1,  # for requests through Ray: there are none
        )  # fmt: skip
        settings = replace(self._settings, threads=self._share["num_cpus"])
        application = placed.bind(settings, self._registry, self._port)
        try:
            serve.run(application, name=self._name, route_prefix=None)
        except RuntimeError as error:
            raise UserError(f"Ray Serve: {error}; why, stands in the replicas' logs") from None

    def remove(self) -> None:
        """End the replicas, unless that has been done; they drain."""
        import ray
        from ray import serve

        if not self._removed:
            serve.delete(self._name)
            ray.kill(self._registry)
            self._removed = True

    def hurry(self) -> None:
        """Who drains ends at once."""
        if not self._removed:
            self._registry.hurry.remote()

    async def places(self) -> list[Place]:
        """What the registry knows; nothing, while it is started anew."""
        from ray.exceptions import RayError

        try:
            return await asyncio.wait_for(self._registry.places.remote(), ASK_S)
        except (TimeoutError, RayError):
            return []


def check_ray_serve() -> None:
    """Raise UserError where Ray is there for other work, without what Ray Serve imports."""
    try:
        importlib.import_module("ray.serve")
    except ImportError as error:
        raise UserError(
            f"ray.serve: can't be imported ({error}), and --engine ray needs it; run: "
            "pip install 'omni-speech[cluster]'"
        ) from None


def connect(address: str | None) -> None:
    """To the cluster at the address; see `ray_address`. Raises UserError if it can't be reached."""
    import ray

    # Ray would count what is run and send it to its makers; nobody asked for that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address, namespace=NAMESPACE, include_dashboard=None if address else False,
            log_to_driver=False, logging_level=logging.WARNING,
        )  # fmt: skip
    # A node of its own that is slow to start is told by a bare Exception.
    except Exception as error:
        raise UserError(
            f"ray_address={address}: can't be reached ({error}); start the cluster with "
            "`ray start --head`, or correct the address"
            if address
            else f"ray: can't start on this machine ({error}); try again, or start a cluster with "
            "`ray start --head` and name it by --ray-address"
        ) from None


def check_reach(settings: ServeSettings, nodes: list[str]) -> None:
    """nodes: addresses. Raises UserError if clients can't come to all of them."""
    if settings.loopback and len(set(nodes)) > 1:
        raise UserError(
            f"host={settings.host}: nobody else reaches this machine, and the cluster has "
            f"{len(set(nodes))}; give --host 0.0.0.0"
        )


def share_of(settings: ServeSettings, resources: Mapping[str, float]) -> dict[str, int]:
    """What each replica takes of the cluster. Raises UserError if there is not enough for all."""
    gpus = resources.get("GPU", 0)
    if settings.device.startswith("cuda") and not gpus:
        raise UserError(f"device={settings.device}: the cluster has no GPU; add a node with one")
    on_gpu = settings.device.startswith("cuda") or (settings.device == "auto" and gpus > 0)
    share = {"num_cpus": settings.threads or 1, "num_gpus": int(on_gpu)}
    for kind, each in (("CPU", share["num_cpus"]), ("GPU", share["num_gpus"])):
        if each * settings.replicas > resources.get(kind, 0):
            raise UserError(
                f"replicas={settings.replicas}: need {each * settings.replicas} {kind}s, and the "
                f"cluster has {resources.get(kind, 0):g}; add nodes, or ask for fewer"
            )
    return share
