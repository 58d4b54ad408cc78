"""Stage 1's teacher: the LLM as it was before training, which has read the question in writing.

Knowledge distillation (Hinton et al. 2015) within one model: with LoRA switched off the base is
there for free. Cross-entropy says which token comes next; the teacher says how likely every other
one was, and so keeps what the LLM knew.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omni.files import UserError
from omni.language_model import is_lora, run_language_model
from omni.model import OmniForConditionalGeneration
from omni.prompt import IGNORE
from train.data import LESSON


@dataclass(frozen=True)
class Taught:
    """What the teacher expects at the n answer tokens of all rows, one row after another.

    log_probs: [n, vocabulary] float32. rows: [B] bool, False for a row that it can't teach, whose
    questions have no text.
    """

    log_probs: Tensor
    rows: Tensor

    def divergence(
        self, logits: Tensor, targets: Tensor, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """KL(teacher || student) over the same tokens, divided as the cross-entropy is.

        logits: [B, K, vocabulary] of the student; targets: [B, K], what each has to predict.
        """
        predicts = targets != IGNORE
        here = logits[predicts & self.rows[:, None]]  # [n, vocabulary]
        student = F.log_softmax(here.float(), dim=-1)
        total = F.kl_div(student, self.log_probs, reduction="sum", log_target=True)
        return total / (predicts.sum() if num_items_in_batch is None else num_items_in_batch)


def check_teacher(weight: float, language_model: Literal["full", "lora", "frozen"]) -> None:
    """Raise UserError if this weight makes no sense, or the LLM's base won't be there to teach."""
    if weight < 0:
        raise UserError(f"distillation_weight={weight}: must be 0 (no teacher) or more")
    if weight and language_model == "full":
        raise UserError(
            f"distillation_weight={weight}: the teacher is the LLM before training, which is gone "
            "where all of it trains; train it by LoRA (--train-llm lora) or not at all, or give 0"
        )


def teach(model: OmniForConditionalGeneration, batch: dict[str, Any]) -> Taught | None:
    """What the base expects, by the lesson of a batch, which is taken out of it; None without one.

    To be called before the student's forward: what switches LoRA off touches its requires_grad.
    """
    lesson = [batch.pop(LESSON + name, None) for name in ("ids", "mask", "labels")]
    ids, mask, labels = lesson
    if ids is None or mask is None or labels is None:
        return None
    predicts = F.pad(labels[:, 1:] != IGNORE, (0, 1))
    # Logits of a vocabulary are large: only of the places where any row has a token to say.
    places = predicts.any(0).nonzero()[:, 0]
    with untrained(model.language_model):
        logits = run_language_model(
            model.language_model, model.embed_tokens(ids), mask, logits_to_keep=places
        ).logits  # [B, places, vocabulary]
        here = logits[predicts[:, places]]
        return Taught(F.log_softmax(here.float(), dim=-1), predicts.any(-1))


@contextmanager
def untrained(language_model: nn.Module) -> Generator[None]:
    """Without LoRA, dropout and gradients."""
    training = language_model.training
    lora: Any = language_model
    base = lora.disable_adapter() if is_lora(language_model) else nullcontext()
    language_model.eval()
    try:
        with torch.no_grad(), base:
            yield
    finally:
        language_model.train(training)
