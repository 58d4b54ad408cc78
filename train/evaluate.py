"""What a checkpoint is worth on questions that it has not seen: right answers, and how they sound.

Every measurement is kept in a journal, so a stopped evaluation goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_tools.manifest import Manifest
from omni.audio import SAMPLE_RATE, load_audio
from omni.chunking import parse_schedule
from omni.ctc import best_units
from omni.errors import UserError
from omni.events import Done
from omni.metrics import character_error_rate, normalise, unit_error_rate, word_error_rate
from omni.model import OmniForConditionalGeneration
from omni.pretrained import load
from omni.processor import OmniProcessor, left_padded, pad_features
from omni.prompt import IGNORE
from omni.session import SessionConfig, SpeechSession
from omni.start import warm_up
from omni.vocoder.streaming import StreamingVocoder
from train.batches import Collate, Dialogues, Example, Prepared, examples
from train.features import CLEAN, LiveEars, weights_digest
from train.journal import Journal
from train.judge import NORMALISER, Judge

NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred thousand".split()
)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured and on how much.

    splits: each reported apart. chunks: schedules in which answers are spoken and timed.
    spoken: answers per split that are vocoded and judged; timed: questions per schedule.
    """

    splits: tuple[str, ...] = ("test_seen", "test_unseen")
    chunks: tuple[str, ...] = ("10", "40", "all")
    spoken: int = 100
    timed: int = 20
    batch_size: int = 32
    max_new_tokens: int = 64


class Evaluation:
    """One checkpoint on one manifest."""

    def __init__(
        self, checkpoint: str | Path, manifest: Manifest, config: EvaluationConfig, output: Path
    ) -> None:
        self.config = config
        self.model, self.processor = load(checkpoint)
        self.manifest = manifest
        self.items = {split: examples(manifest, split) for split in config.splits}
        self.ears = LiveEars(self.processor, augmentation=None, seed=0)
        self.journal = Journal(
            output / "results.jsonl",
            {
                "model": weights_digest(self.model, voice=self.model.vocoder is not None),
                "questions": _digest(list(self.items.values())),
            },
        )

    def run(self) -> dict[str, Any]:
        """Measure what is not in the journal yet; the report of all of it."""
        for split, items in self.items.items():
            self._answer(f"answer {split}", items)
            self._answer(f"shuffled {split}", _with_others_audio(items))
            self._losses(split, items)
        first = next(iter(self.items.values()))
        self._answer("written", [_in_writing(item) for item in first])
        if self.model.vocoder is not None:
            for split, items in self.items.items():
                self._speak(split, items)
            self._time(first)
        return self.report()

    def report(self) -> dict[str, Any]:
        first = next(iter(self.items.values()))
        report: dict[str, Any] = {"load_average": os.getloadavg()[0], "splits": {}}
        for split, items in self.items.items():
            report["splits"][split] = self._report_split(split, items)
        report["text_in_exact"] = self._right_share("written", first)
        if self.model.vocoder is not None:
            report["timing"] = {
                chunks: self._report_timing(chunks, first) for chunks in self.config.chunks
            }
        return report

    # text

    def _answer(self, label: str, items: Sequence[Example]) -> None:
        """Generate, greedily and in batches, with the units of what was generated."""

        def make(batch: Sequence[Example]) -> list[dict[str, Any]]:
            prompts = [self._prompt(item) for item in batch]
            answers = generate(self.model, self.processor, prompts, self.config.max_new_tokens)
            units = (
                speak_answers(self.model, self.processor, prompts, answers)
                if self.model.unit_decoder is not None and label.startswith("answer")
                else [[] for _ in batch]
            )
            return [
                {"text": self.processor.decode(ids), "units": said}
                for ids, said in zip(answers, units, strict=True)
            ]

        self._fill(label, items, make, self.config.batch_size)

    def _prompt(self, item: Example) -> Prepared:
        heard = [self.ears.hear(path, CLEAN) for path in item.recordings]
        messages = item.messages([self.ears.positions(sound) for sound in heard])
        return Prepared(self.processor.prompt(messages[:-1]).ids, [], heard)

    @torch.no_grad()
    def _losses(self, split: str, items: Sequence[Example]) -> None:
        """Teacher-forced: cross-entropy of the response, and unit errors where units are known."""
        dialogues = Dialogues(items, self.processor, self.ears)
        pad = Collate(self.processor, self.ears)
        places = {item.id: place for place, item in enumerate(items)}

        def make(batch: Sequence[Example]) -> list[dict[str, Any]]:
            tensors = dict(pad([dialogues[places[item.id]] for item in batch]))
            count = int((tensors["labels"] != IGNORE).sum())  # type: ignore[operator]
            loss = float(self.model(**tensors).loss) * count
            said: list[list[int]] = [[] for _ in batch]
            if self.model.unit_decoder is not None:
                states = self.model.teacher_forced_states(**tensors)  # type: ignore[arg-type]
                said = best_units(self.model.unit_decoder(states))
            # A batch has one loss: its first row carries it.
            shares = [(loss, count)] + [(0.0, 0)] * (len(batch) - 1)
            return [
                {"loss": share[0], "tokens": share[1], "units": units}
                for share, units in zip(shares, said, strict=True)
            ]

        self._fill(f"forced {split}", items, make, self.config.batch_size)

    # speech

    def _speak(self, split: str, items: Sequence[Example]) -> None:
        """Vocode what was generated, per schedule, and let the judges hear it and the teacher."""
        chosen = self._spoken(items)
        sentences = sorted(
            {turn.text for record in self.manifest.records for turn in record.turns[1::2]}
        )
        judges: dict[str, Judge] = {}  # made when first needed: they take seconds

        def heard(waveform: np.ndarray) -> dict[str, Any]:
            if not judges:
                judges.update(domain=Judge(sentences), full=Judge(None))
            words = {name: judge.hear(waveform) for name, judge in judges.items()}
            return words | {"seconds": len(waveform) / SAMPLE_RATE}

        for chunks in self.config.chunks:
            vocoder = StreamingVocoder(self.model.vocoder, parse_schedule(chunks))  # type: ignore[arg-type]

            def speak(batch: Sequence[Example], vocoder=vocoder) -> list[dict[str, Any]]:
                units = [self.journal[f"answer {split} {item.id}"]["units"] for item in batch]
                return [heard(stream(vocoder, row)) for row in units]

            self._fill(f"spoken {chunks} {split}", chosen, speak, 1)
        teacher = [item for item in chosen if item.answer.speech is not None]
        self._fill(
            f"teacher {split}",
            teacher,
            lambda batch: [
                heard(load_audio(self.manifest.audio_path(item.answer))) for item in batch
            ],
            1,
        )

    def _time(self, items: Sequence[Example]) -> None:
        """First audio and real-time factor, one question at a time, warmed up."""
        chosen = [item for item in items if len(item.turns) == 2 and item.recordings]
        chosen = _spread(chosen, self.config.timed)
        for chunks in self.config.chunks:
            config = SessionConfig(
                schedule=parse_schedule(chunks), max_new_tokens=self.config.max_new_tokens
            )
            label = f"timed {chunks}"
            if self.journal.missing([f"{label} {item.id}" for item in chosen]):
                warm_up(self.model, self.processor, config)

            def ask(batch: Sequence[Example], config=config) -> list[dict[str, Any]]:
                session = SpeechSession(self.model, self.processor, config)
                *_, done = session.ask(load_audio(batch[0].recordings[0]))
                assert isinstance(done, Done)
                timings = done.timings
                return [
                    {
                        "first_audio_ms": timings.first_audio_ms,
                        "real_time_factor": timings.real_time_factor,
                        "total_ms": timings.total_ms,
                    }
                ]

            self._fill(label, chosen, ask, 1)

    # report

    def _report_split(self, split: str, items: Sequence[Example]) -> dict[str, Any]:
        said = [self.journal[f"answer {split} {item.id}"] for item in items]
        true = [item.answer.text for item in items]
        right = [is_right(row["text"], text) for row, text in zip(said, true, strict=True)]
        skills = sorted({item.skill for item in items})
        numbers = [has_number(text) for text in true]
        forced = [self.journal[f"forced {split} {item.id}"] for item in items]
        report: dict[str, Any] = {
            "questions": len(items),
            "right": _share(right),
            "right_shuffled_audio": self._right_share(f"shuffled {split}", items),
            "right_numbers": _share([r for r, n in zip(right, numbers, strict=True) if n]),
            "right_without_numbers": _share(
                [r for r, n in zip(right, numbers, strict=True) if not n]
            ),
            "right_by_skill": {
                skill: _share([r for r, i in zip(right, items, strict=True) if i.skill == skill])
                for skill in skills
            },
            "cer": character_error_rate(
                true, [row["text"] for row in said], normaliser=NORMALISER
            ).rate,
            "loss": sum(row["loss"] for row in forced) / sum(row["tokens"] for row in forced),
        }
        pairs = [
            (item.answer.units, row["units"])
            for item, row in zip(items, forced, strict=True)
            if item.answer.units
        ]
        if self.model.unit_decoder is not None and pairs:
            report["unit_error_rate"] = unit_error_rate(*map(list, zip(*pairs, strict=True))).rate
        if self.model.vocoder is not None:
            report["speech"] = self._report_speech(split, self._spoken(items))
        return report

    def _report_speech(self, split: str, chosen: Sequence[Example]) -> dict[str, Any]:
        own = [self.journal[f"answer {split} {item.id}"]["text"] for item in chosen]
        report: dict[str, Any] = {"sentences": len(chosen)}
        teacher = [item for item in chosen if item.answer.speech is not None]
        natural = {item.id: self.journal[f"teacher {split} {item.id}"] for item in teacher}
        for ear in ("domain", "full"):
            row = {
                chunks: _wer(
                    own, [self.journal[f"spoken {chunks} {split} {i.id}"][ear] for i in chosen]
                )
                for chunks in self.config.chunks
            }
            row["teacher"] = _wer(
                [item.answer.text for item in teacher], [natural[i.id][ear] for i in teacher]
            )
            report[f"wer_{ear}"] = row
        # Durations are compared where the same sentence was said.
        same = [
            item
            for item, text in zip(chosen, own, strict=True)
            if item.id in natural and is_right(text, item.answer.text)
        ]
        chunks = self.config.chunks[-1]
        spoken_s = sum(self.journal[f"spoken {chunks} {split} {i.id}"]["seconds"] for i in same)
        natural_s = sum(natural[item.id]["seconds"] for item in same)
        report["duration_ratio"] = spoken_s / natural_s if natural_s else None
        return report

    def _report_timing(self, chunks: str, items: Sequence[Example]) -> dict[str, float]:
        chosen = [item for item in items if len(item.turns) == 2 and item.recordings]
        chosen = _spread(chosen, self.config.timed)
        rows = [self.journal[f"timed {chunks} {item.id}"] for item in chosen]
        report: dict[str, float] = {}
        for name in ("first_audio_ms", "real_time_factor", "total_ms"):
            values = [row[name] for row in rows if row[name] is not None]
            if values:
                report[f"{name}_median"] = median(values)
                report[f"{name}_p95"] = float(np.percentile(values, 95))
        return report

    def _right_share(self, label: str, items: Sequence[Example]) -> float:
        return _share(
            [is_right(self.journal[f"{label} {item.id}"]["text"], item.answer.text) for item in items]
        )

    def _spoken(self, items: Sequence[Example]) -> list[Example]:
        """The answers that are vocoded: those with units, evenly over the split."""
        return _spread(list(items), self.config.spoken)

    def _fill(
        self,
        label: str,
        items: Sequence[Example],
        make: Callable[[Sequence[Example]], list[dict[str, Any]]],
        batch_size: int,
    ) -> None:
        missing = set(self.journal.missing([f"{label} {item.id}" for item in items]))
        todo = [item for item in items if f"{label} {item.id}" in missing]
        with tqdm(total=len(items), initial=len(items) - len(todo), desc=label) as bar:
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                made = make(batch)
                self.journal.add(
                    {f"{label} {item.id}": row for item, row in zip(batch, made, strict=True)}
                )
                bar.update(len(batch))
