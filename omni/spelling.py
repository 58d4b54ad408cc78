"""How the tokens of an LLM are spelled, for a unit decoder that reads letters beside the tokens.

An embedding says nothing of a token that training never met: a decoder learns how each sounds by
itself. What is spelled alike mostly sounds alike, so letters tell it the sound of words that none
of its answers had.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BYTES = 256  # of UTF-8; 0 occurs in no word, and stands for no letter
LETTER_WIDTH, WIDTH = 64, 256
KERNEL = 5  # letters of each of two layers: a "c" sounds by what follows it


class Spelling(nn.Module):
    """Letters of each token -> what is added to the unit decoder's steps of that token.

    The steps of a token go over its letters evenly. Each letter is read with four to either side,
    of the same token: what comes next in a stream is not known yet. At first nothing is added.
    """

    codes: Tensor

    def __init__(self, vocabulary: int, letters: int, width: int) -> None:
        """vocabulary: ids of the LLM; letters: of each token that are read; width: of the steps."""
        super().__init__()
        self.register_buffer("codes", torch.zeros(vocabulary, letters, dtype=torch.uint8))
        self.embedding = nn.Embedding(BYTES, LETTER_WIDTH, padding_idx=0)
        self.near = nn.Conv1d(LETTER_WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
        self.around = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
        self.out_proj = nn.Linear(WIDTH, width)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def letters(self, ids: Tensor) -> Tensor:
        """[B, N] ids -> [B, N, letters] uint8, filled up with 0."""
        return self.codes[ids]

    def forward(self, letters: Tensor, upsample: int) -> Tensor:
        """letters: [B, N, L] int64 -> [B, N * upsample, width]."""
        rows, tokens, most = letters.shape
        embedded = self.embedding(letters.reshape(-1, most)).transpose(1, 2)  # [B N, C, L]
        read = F.gelu(self.around(F.gelu(self.near(embedded)))).transpose(1, 2)
        read = self.out_proj(read)  # [B N, L, width]
        count = (letters > 0).sum(-1).reshape(-1, 1)  # [B N, 1]
        place = torch.arange(upsample, device=letters.device) * count // upsample  # [B N, S]
        steps = read.gather(1, place[:, :, None].expand(-1, -1, read.shape[-1]))
        return steps.reshape(rows, tokens * upsample, self.out_proj.out_features)


def spelled(tokenizer: Any, vocabulary: int, letters: int) -> Tensor:
    """The codes [vocabulary, letters] of a tokenizer's tokens: their first bytes in UTF-8.

    A space that a token brings with it is one of them, and begins a word. Special tokens, and ids
    that the tokenizer does not have, are spelled with nothing.
    """
    special = set(tokenizer.all_special_ids)
    ids = [number for number in range(min(vocabulary, len(tokenizer))) if number not in special]
    (before, *_) = tokenizer("a", add_special_tokens=False)["input_ids"]
    # Behind a letter, for some tokenizers drop the space that a text begins with.
    texts = tokenizer.batch_decode([[before, number] for number in ids])
    skipped = len(tokenizer.decode([before]))
    codes = torch.zeros(vocabulary, letters, dtype=torch.uint8)
    for number, text in zip(ids, texts, strict=True):
        said = text[skipped:].encode()[:letters]
        codes[number, : len(said)] = torch.tensor(list(said), dtype=torch.uint8)
    return codes
