"""Alignment: the speech adapter learns to say, in the LLM's own token embeddings, what was asked.

A CTC loss (Graves et al. 2006) compares the adapter's positions with the embeddings of the tokens
of the question's transcript. The LLM itself does not run, so a step costs a hundredth of stage 1's,
and stage 1 begins with an adapter that is no stranger to the LLM.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import EvalPrediction, PreTrainedTokenizerBase

from data_tools.manifest import Manifest
from omni.ctc import best_labels, collapse, ctc_loss, infeasible, initial_collapse_state
from omni.files import UserError, need
from omni.frame_cache import CLEAN, weights_digest
from omni.metrics import word_error_rate
from omni.prompt import IGNORE
from omni.speech_adapter import SpeechAdapter
from omni.values import Frames
from train.data import Ears, Example, data_of, examples, mask_spans, plain, tokenizer_digest
from train.loop import Freeze, Item, LoopConfig, Weights, begin_run, check_installed, part_of, train
from train.stages.aligned import adapter_for, bases_of, token_embeddings, write_adapter
from train.stages.beginning import begin_with
from train.stages.stage1 import Stage1, make_ears

log = logging.getLogger(__name__)

MIXTURE = "mixture."
ALIGNED = ("linear1", "linear2", "mixture.blank", "mixture.log_scale", "mixture.bias")


@dataclass(frozen=True, kw_only=True)
class Align:
    """What is aligned, on what, for how long.

    hearing: stage 1's recipe: its adapter, and how questions come in; token_mixture: whether the
    LLM will read mixtures of its tokens, or the products that these are made by; frame_masking:
    share of encoder frames that an example does not hear.
    """

    hearing: Stage1
    loop: LoopConfig
    token_mixture: bool = True
    frame_masking: float = 0.1


def token_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A transcript as tokens: lower case, words alone, with the space before each word.

    What a recording says has no capitals and no marks, and a word has one spelling this way.
    """
    words = re.sub(r"[^\w' ]", " ", text.lower()).split()
    return tokenizer(" " + " ".join(words), add_special_tokens=False)["input_ids"]  # type: ignore[return-value]


class LearnsToName(nn.Module):
    """An adapter with a mixture, by CTC over the tokens that it is made of.

    embeddings: [V, H], the LLM's, of these tokens.
    """

    embeddings: Tensor

    def __init__(self, speech_adapter: SpeechAdapter, embeddings: Tensor) -> None:
        super().__init__()
        self.speech_adapter = speech_adapter
        self.register_buffer("embeddings", embeddings.float(), persistent=False)

    def forward(
        self,
        encoder_frames: Tensor,
        encoder_lengths: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """[B, F, D], [B], [B, L], [B] -> the mean loss per token (of all batches of a step, if
        their number is given) and the best row [B, P] of each position; V is the blank."""
        heard = self.speech_adapter.stacked(Frames(encoder_frames, encoder_lengths))
        mixture = self.speech_adapter.mixture
        assert mixture is not None
        scores = mixture.scores(heard.values, self.embeddings).float()
        # CTC looks at the batch's own labels alone: of all others it needs their sum, and a
        # vocabulary of thousands costs several times as much.
        said = labels[labels != IGNORE].unique()
        blank = scores.new_tensor([scores.shape[-1] - 1], dtype=said.dtype)
        log_probs = scores[..., torch.cat([said, blank])] - scores.logsumexp(-1, keepdim=True)
        rows = torch.searchsorted(said, labels.clamp(min=0)).clamp(max=max(len(said) - 1, 0))
        loss = ctc_loss(Frames(log_probs, heard.lengths), rows, label_lengths, num_items_in_batch)
        if self.training:
            return {"loss": loss}
        return {"loss": loss, "best": best_labels(Frames(scores, heard.lengths))}


class Transcripts(Dataset[dict[str, Tensor]]):
    """Encoder frames of each question and the rows of its tokens; by int clean and unmasked."""

    def __init__(
        self,
        items: Sequence[Example],
        rows: Sequence[Sequence[int]],
        ears: Ears,
        *,
        frame_masking: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._items, self._rows, self._ears = items, rows, ears
        self._masking, self._seed = frame_masking, seed

    def __len__(self) -> int:
        return len(self._items)

    @property
    def lengths(self) -> list[int]:
        """Bytes of each recording; enough to sort by."""
        return [item.recordings[-1].stat().st_size for item in self._items]

    def __getitem__(self, item: Item | int) -> dict[str, Tensor]:
        place = item if isinstance(item, Item) else Item(0, item)
        variant = self._ears.variant(place) if isinstance(item, Item) else CLEAN
        frames = self._ears.hear(self._items[place.index].recordings[-1], variant)
        if isinstance(item, Item) and self._masking:
            rng = np.random.default_rng((self._seed, place.epoch, place.index))
            frames = mask_spans(frames, self._masking, rng)
        return {"frames": frames, "rows": torch.tensor(self._rows[place.index])}


def collate(examples: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Pad frames and rows to the longest of the batch."""
    frames = [example["frames"] for example in examples]
    rows = [example["rows"] for example in examples]
    pad = nn.utils.rnn.pad_sequence
    return {
        "encoder_frames": pad(frames, batch_first=True),
        "encoder_lengths": torch.tensor([len(row) for row in frames]),
        "labels": pad(rows, batch_first=True, padding_value=IGNORE),
        "label_lengths": torch.tensor([len(row) for row in rows]),
    }


def train_align(
    manifest: Manifest,
    *,
    recipe: Align,
    output: Path,
    speech_encoder: str | None = None,
    language_model: str | None = None,
    checkpoint: str | Path | None = None,
    cache: Path | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Train the adapter on the split "train"; leave it in `output/speech_adapter`.

    What is learnt, and what the split "validation" measures, is told by `spoken`.
    speech_encoder, language_model: the bases between which a new adapter begins; checkpoint: or
    what has both, and an adapter to go on from, in its size and with the tokens that it knows.
    cache: where encoded questions lie, default `output/frames`; stage 1 reads it too. Resumes from
    what `output` holds; restart: removes that first. Raises UserError if it holds a run of
    something else, or if more than a hundredth of the questions are said in fewer positions than
    they have tokens. Returns the loss and the word error rate of the split "validation", if there
    is one: of the best tokens, no LLM involved.
    """
    check_installed(recipe.loop)
    need("jiwer", "train", "the adapter's validation")
    hearing = replace(
        recipe.hearing,
        cached_variants=recipe.hearing.cached_variants or 0,
        language_model="frozen",
        keep_adapter=False,
    )
    begun = begin_with(
        hearing,
        speech_encoder=speech_encoder,
        language_model=language_model,
        checkpoint=checkpoint,
        adapter=None,
    )
    model, processor, hearing = begun.model, begun.processor, begun.recipe
    bases = bases_of(model)
    goes_on = {"speech_adapter": weights_digest(model.speech_adapter)} if checkpoint else {}
    training, validation = spoken(manifest)  # before the folder is taken, if they are refused
    run = begin_run(
        output,
        "align",
        {
            "data": data_of(manifest, "train", "validation"),
            "recipe": plain(recipe),
            "bases": bases | {"tokenizer": tokenizer_digest(processor.tokenizer)} | goes_on,
        },
        product="speech_adapter",
        also_writes=("checkpoint-*", "runs"),
        shared=("frames",),
        restart=restart,
        names={**begun.names, "data": str(manifest.root)},
    )
    if run.result is not None:
        return run.result
    tokenizer = processor.tokenizer
    ears = make_ears(model, processor, training, validation, hearing, cache or output / "frames")
    said = [token_ids(item.question.text, tokenizer) for item in (*training, *validation)]
    torch.manual_seed(recipe.loop.seed)
    adapter = adapter_for(
        model, {token for tokens in said for token in tokens}, goes_on=bool(goes_on)
    )
    assert adapter.mixture is not None
    vocabulary = adapter.mixture.token_ids.tolist()
    row_of = {token: row for row, token in enumerate(vocabulary)}
    rows = [[row_of[token] for token in tokens] for tokens in said]
    try:
        _check_lengths(training, rows, ears)
    except UserError:
        run.give_up()
        raise
    named, width, hidden = adapter.config, model.speech_encoder.width, model.config.hidden_size
    table = token_embeddings(model, adapter.mixture.token_ids)
    module = LearnsToName(adapter, table)
    del model, begun  # the LLM's memory is the training's now
    blank = len(vocabulary)

    def words(labels: np.ndarray, *, collapsed: bool) -> str:
        start = initial_collapse_state(blank)
        kept = [int(label) for label in labels if label >= 0]
        tokens = kept if collapsed else collapse(kept, start, blank)[0]
        return str(tokenizer.decode([vocabulary[row] for row in tokens]))

    def errors(prediction: EvalPrediction) -> dict[str, float]:
        heard = [words(row, collapsed=False) for row in prediction.predictions]
        true = [words(row, collapsed=True) for row in prediction.label_ids]
        return {"wer": word_error_rate(true, heard, normaliser="basic").rate}

    def finish(weights: Weights) -> None:
        layers = part_of(weights, "speech_adapter")
        kept = named
        if not recipe.token_mixture:
            kept = replace(named, vocabulary=0)
            layers = {name: w for name, w in layers.items() if not name.startswith(MIXTURE)}
        trained = SpeechAdapter(kept, input_width=width, output_width=hidden)
        trained.load_state_dict(layers)
        write_adapter(output / "speech_adapter", trained, bases)

    dataset = Transcripts(
        training, rows, ears, frame_masking=recipe.frame_masking, seed=recipe.loop.seed
    )
    result = train(
        module,
        config=recipe.loop,
        output=output,
        dataset=dataset,
        lengths=dataset.lengths,
        collate=collate,
        count=lambda batch: int(batch["label_lengths"].sum()),
        validation=Transcripts(validation, rows[len(training) :], ears) if validation else None,
        metrics=errors,
        # What the LLM reads in silence is for stage 1 to learn.
        freeze=Freeze(tuple(f"speech_adapter.{name}" for name in ALIGNED)),
        finish=finish,
    )
    return run.finish(result)


def spoken(manifest: Manifest) -> tuple[list[Example], list[Example]]:
    """Training and validation: answers to a recording with words, in the main language.

    The main language is that of most of these in training. Those in others are left out, and
    counted in a line of the log: an LLM that isn't to understand them has no words for them.
    Raises UserError if training has none.
    """
    held_out = any(record.split == "validation" for record in manifest.records)
    training = _transcribed(examples(manifest, "train"))
    validation = _transcribed(examples(manifest, "validation")) if held_out else []
    if not training:
        raise UserError(
            f"{manifest}: no question for training is spoken; give recordings with their "
            "transcripts"
        )
    (main, _), *_ = Counter(item.language for item in training).most_common()
    others = Counter(item.language for item in (*training, *validation) if item.language != main)
    if others:
        log.info(
            "%d questions are not in the main language, %s, and are left out: %s",
            others.total(),
            main,
            ", ".join(f"{count} {language}" for language, count in others.most_common()),
        )
    return (
        [item for item in training if item.language == main],
        [item for item in validation if item.language == main],
    )


def _transcribed(items: Sequence[Example]) -> list[Example]:
    """Those whose last question is a recording with words; a sound has none."""
    return [
        item for item in items if item.question.speech is not None and item.question.text.strip()
    ]


def _check_lengths(items: Sequence[Example], rows: Sequence[Sequence[int]], ears: Ears) -> None:
    """Refuse data whose questions are longer than their recordings can say."""
    pairs = [
        (item.id, row, ears.positions(ears.hear(item.recordings[-1], CLEAN)))
        for item, row in zip(items, rows[: len(items)], strict=True)
    ]
    bad = infeasible(pairs)
    if len(bad) > len(pairs) // 100:
        raise UserError(
            f"{len(bad)} of {len(pairs)} questions have more tokens than positions, {bad[0].key} "
            f"first ({bad[0].needed} and {bad[0].available}); does each recording say its text?"
        )
