"""A model made part by part: each in a process of its own, kept, and gone on with after a stop.

`__init__.pyi` names what other rooms may use; each name is imported at its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
