"""Turn: a question, its prompt and the reply to it, which belong together from the start."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers import Cache, DynamicLayer

from omni.prompt import Message
from omni.session.reply import Reply


@dataclass(frozen=True, eq=False)
class Turn:
    """What `SpeechSession.begin` gives and `remember` takes: no answer lands elsewhere.

    question: as the conversation will hold it; speech: [P, H], its adapted speech, None if it was
    written; prompt_ids: all that the LLM is fed before it answers; reply: the state machine.
    """

    question: Message
    speech: Tensor | None
    prompt_ids: tuple[int, ...]
    reply: Reply

    def cached(self) -> tuple[Cache | None, list[int]]:
        """The reply's keys and values and the ids that they are of; none if they cannot be cut."""
        cache = self.reply.cache
        layers = [] if cache is None else cache.layers
        # Only plain layers keep every position, and so can be cut back.
        plain = [layer for layer in layers if type(layer) is DynamicLayer]
        lengths = {layer.get_seq_length() for layer in plain}
        # Several lengths: some layers are shared, or a forward broke off between two.
        if len(plain) < len(layers) or len(lengths) != 1:
            return None, []
        # The last token said may have been fed or not: the cache itself knows.
        return cache, [*self.prompt_ids, *self.reply.token_ids][: lengths.pop()]
