"""Manifest records -> examples -> padded batches: one example per answer, with what came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from data_tools.manifest import Manifest, RecordTurn
from omni.files import UserError
from omni.frame_cache import CLEAN
from omni.processor import OmniProcessor, pad_features
from omni.prompt import IGNORE, Message, PromptIds
from train.data.features import Ears
from train.data.left_out import mask_spans, thinned
from train.loop import Item

LESSON = "lesson_"  # what the teacher of stage 1 reads: the names of it in a batch
TEXT_DRAW = 7  # keeps the draw of written questions apart from that of augmentation


@dataclass(frozen=True, kw_only=True)
class Example:
    """One answer to learn, and the dialogue that leads to it.

    id: record id and number of the answer, "capitals-france-1.0#0"; turns: history, question,
    answer; recordings: of the spoken user turns among them, in order; skill, kind, language: the
    record's.
    """

    id: str
    turns: tuple[RecordTurn, ...]
    recordings: tuple[Path, ...]
    skill: str
    language: str
    kind: str = ""

    @property
    def has_words(self) -> bool:
        """Whether it can be asked in writing: a sound that is no speech has no text."""
        return all(turn.text for turn in self.turns[::2])

    @property
    def question(self) -> RecordTurn:
        """The turn that is answered."""
        return self.turns[-2]

    @property
    def written(self) -> bool:
        """Whether every question can be put in writing: noise, for one, has no text."""
        return all(turn.text.strip() for turn in self.turns[::2])

    @property
    def answer(self) -> RecordTurn:
        """The turn that the model learns to give."""
        return self.turns[-1]

    def messages(self, positions: Sequence[int], *, written: bool = False) -> list[Message]:
        """The conversation as the prompt takes it.

        positions: LLM positions of each recording; written: every question as text instead.
        """
        remaining = iter(positions)
        return [
            Message(role=turn.role, positions=next(remaining))
            if turn.role == "user" and turn.speech is not None and not written
            else Message(role=turn.role, text=turn.text)
            for turn in self.turns
        ]


def examples(manifest: Manifest, *splits: str) -> list[Example]:
    """Every answer of these splits. Raises UserError if there is none."""
    found = []
    for record in manifest.records:
        if record.split not in splits:
            continue
        for place in range(1, len(record.turns), 2):
            turns = record.turns[: place + 1]
            spoken = [turn for turn in turns[::2] if turn.speech is not None]
            found.append(
                Example(
                    id=f"{record.id}#{place // 2}",
                    turns=turns,
                    recordings=tuple(manifest.audio_path(turn) for turn in spoken),
                    skill=record.provenance.get("skill", ""),
                    language=record.language,
                    kind=record.provenance.get("kind", ""),
                )
            )
    if not found:
        known = sorted({record.split for record in manifest.records})
        raise UserError(
            f"{manifest}: no answered question in split {' or '.join(splits)}; the manifest's "
            f"splits are {', '.join(known) or '(none)'}"
        )
    return found


def spread(items: list[Example], count: int | None) -> list[Example]:
    """`count` of the items, evenly over them; all if there are fewer, or with None."""
    if count is None or len(items) <= count:
        return items
    return [items[place * len(items) // count] for place in range(count)]


def recordings_of(items: Sequence[Example]) -> list[Path]:
    """Every recording once, in order. Raises UserError that names those that are missing."""
    paths = list(dict.fromkeys(path for example in items for path in example.recordings))
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} recordings are missing, {missing[0]} first; restore them, or remove "
            "their records from the manifest"
        )
    return paths


@dataclass(frozen=True)
class Prepared:
    """An example as tensors: ids and labels [T], and what was heard of each recording.

    lesson: the same conversation in writing, for a teacher, and None where there is none.
    """

    ids: list[int]
    labels: list[int]
    heard: list[Tensor]  # [F, D] encoder frames or [n_mels, M] log-mel
    lesson: PromptIds | None = None


class Batch(TypedDict, total=False):
    """What OmniForConditionalGeneration.forward takes.

    input_ids, attention_mask, labels [B, T], padded on the right; of the R recordings either
    input_features [R, n_mels, M] and input_features_mask [R, M], or encoder_frames [R, F, D] and
    encoder_lengths [R]; none of these where no question is spoken. lesson_...: of the same
    conversations in writing, [B, T']; a row of which there is none has no labels there.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    input_features: Tensor
    input_features_mask: Tensor
    encoder_frames: Tensor
    encoder_lengths: Tensor
    lesson_ids: Tensor  # LESSON and its name
    lesson_mask: Tensor
    lesson_labels: Tensor


class Dialogues(Dataset[Prepared]):
    """Examples for training (by Item) and validation (by int: clean, never written).

    text_share: how many of the spoken examples are put to the model in writing, drawn anew in
    every epoch; it keeps an LLM that learns to listen able to read. word_dropout: share of the
    words in writing that training does not see, and frame_masking: of the encoder's frames that it
    does not hear, drawn anew as well. lessons: training examples also bring their conversation in
    writing, for a teacher.
    """

    def __init__(
        self,
        items: Sequence[Example],
        processor: OmniProcessor,
        ears: Ears,
        *,
        text_share: float = 0.0,
        word_dropout: float = 0.0,
        frame_masking: float = 0.0,
        lessons: bool = False,
        seed: int = 0,
    ) -> None:
        shares = {
            "text_share": text_share,
            "word_dropout": word_dropout,
            "frame_masking": frame_masking,
        }
        for name, share in shares.items():
            if not 0.0 <= share < 1.0:
                raise ValueError(f"{name}={share}: must be from 0 to below 1")
        if frame_masking and not ears.encoded:
            raise ValueError(
                f"frame_masking={frame_masking}: must be 0 where log-mel is heard, for it masks "
                "cached encoder frames; set cached_variants"
            )
        self.items = items
        self._processor = processor
        self._ears = ears
        self._text_share = text_share
        self._word_dropout = word_dropout
        self._frame_masking = frame_masking
        self._lessons = lessons
        self._seed = seed

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> list[int]:
        """About how long each example is, in bytes of audio and text; enough to sort by."""
        size = {path: path.stat().st_size for path in recordings_of(self.items)}
        return [
            sum(size[path] for path in example.recordings)
            + 1000 * sum(len(turn.text) for turn in example.turns if turn.speech is None)
            for example in self.items
        ]

    def __getitem__(self, item: Item | int) -> Prepared:
        if isinstance(item, Item):
            rng = np.random.default_rng((self._seed, TEXT_DRAW, item.epoch, item.index))
            written = bool(rng.random() < self._text_share)
            prepared = self.prepare(item.index, self._ears.variant(item), written=written, thin=rng)
            if self._lessons:
                prepared = replace(prepared, lesson=self._lesson(item.index, prepared))
            if not self._frame_masking:
                return prepared
            heard = [mask_spans(frames, self._frame_masking, rng) for frames in prepared.heard]
            return replace(prepared, heard=heard)
        return self.prepare(item, CLEAN, written=False)

    def prepare(
        self, index: int, variant: int, *, written: bool, thin: np.random.Generator | None = None
    ) -> Prepared:
        """One example in a given variant of its recordings, or with its questions written.

        thin: draws the words that are left out; None leaves out none.
        """
        example = self.items[index]
        written = written and example.has_words
        recordings = () if written else example.recordings
        heard = [self._ears.hear(path, variant) for path in recordings]
        positions = [self._ears.positions(sound) for sound in heard]
        messages = example.messages(positions, written=written)
        if self._word_dropout and thin is not None:
            messages = thinned(messages, self._word_dropout, thin)
        prompt = self._processor.prompt(messages)
        return Prepared(prompt.ids, prompt.labels, heard)

    def _lesson(self, index: int, prepared: Prepared) -> PromptIds:
        """The conversation in writing; nothing to say where it has no text."""
        example = self.items[index]
        if not example.written:
            return PromptIds([int(self._processor.tokenizer.pad_token_id or 0)], 1)
        lesson = self._processor.prompt(example.messages((), written=True))
        answer = [label for label in prepared.labels if label != IGNORE]
        if lesson.ids[lesson.response_start :] != answer:
            raise ValueError(
                f"{example.id}: its answer has other tokens after the written question than after "
                "the spoken one, so one can't teach the other; use a chat template that keeps them "
                "apart, or no teacher"
            )
        return lesson


class Collate:
    """Pad a batch on the right; recordings in the order in which their slots stand."""

    def __init__(self, processor: OmniProcessor, ears: Ears) -> None:
        self._pad = int(processor.tokenizer.pad_token_id or 0)
        self._encoded = ears.encoded

    def __call__(self, prepared: Sequence[Prepared]) -> Batch:
        """A batch of what `Dialogues` gives; recordings of all rows in one tensor."""
        ids = right_padded([example.ids for example in prepared], self._pad)
        batch: Batch = {
            "input_ids": ids,
            "attention_mask": _mask([example.ids for example in prepared]),
            "labels": right_padded([example.labels for example in prepared], IGNORE),
        }
        if lessons := [example.lesson for example in prepared if example.lesson is not None]:
            batch["lesson_ids"] = right_padded([lesson.ids for lesson in lessons], self._pad)
            batch["lesson_labels"] = right_padded([lesson.labels for lesson in lessons], IGNORE)
            batch["lesson_mask"] = _mask([lesson.ids for lesson in lessons])
        heard = [sound for example in prepared for sound in example.heard]
        if heard and self._encoded:
            batch["encoder_frames"] = nn.utils.rnn.pad_sequence(heard, batch_first=True)
            batch["encoder_lengths"] = torch.tensor([len(sound) for sound in heard])
        elif heard:
            mels = pad_features(heard)
            batch["input_features"] = mels["input_features"]
            batch["input_features_mask"] = mels["input_features_mask"]
        return batch


def on_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """A padded batch where the model lies."""
    return {name: value.to(device) for name, value in batch.items()}


def right_padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """[n] each -> [B, longest] int64."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def _mask(rows: Sequence[Sequence[int]]) -> Tensor:
    """[B, longest] int64, 1 where a row has an id."""
    return right_padded([[1] * len(row) for row in rows], 0)
