"""Interruptions, by voice and by message: how soon a server hears of them, and stops.

`__init__.pyi` names what other rooms may use; each name is imported at its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
