"""OpenAI's Realtime protocol (its general-availability names) over a WebSocket.

A message becomes an event (messages), a Talk answers it with events (events) in an outbox, a
Connection carries both. `__init__.pyi` names what other rooms may use; each name is imported at
its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
