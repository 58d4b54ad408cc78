"""The mini from published bases to a checkpoint that holds what was trained, part by part.

`__init__.pyi` names what other rooms may use; each name is imported at its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
