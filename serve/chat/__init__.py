"""OpenAI's chat protocol over HTTP, for questions and answers in text and sound.

A body becomes a request (request), its messages a question and what was said before (reading), an
engine's session answers (answering), whole or as server-sent events. `__init__.pyi` names what
other rooms may use; each name is imported at its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
