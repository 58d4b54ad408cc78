"""What a checkpoint is worth on questions that it has not seen: right answers, and how they sound.

Every measurement is kept in a journal, so a stopped evaluation goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_tools.manifest import Manifest
from omni.audio import load_audio
from omni.commands import start, warm_up
from omni.ctc import best_units
from omni.files import need
from omni.frame_cache import CLEAN, weights_digest
from omni.prompt import IGNORE
from omni.session import Done, SessionConfig, SpeechSession
from omni.vocoder import parse_schedule
from train.data import (
    Collate,
    Dialogues,
    Example,
    LiveEars,
    Prepared,
    data_of,
    examples,
    on_device,
    spread,
)
from train.evaluation.answers import (
    generate,
    in_writing,
    last_answers,
    speak_answers,
    with_others_audio,
)
from train.evaluation.journal import Journal
from train.evaluation.judges import POCKETSPHINX, Ear
from train.evaluation.listeners import Listeners
from train.evaluation.refusing import known_refusals, report_refusals
from train.evaluation.repeating import SAID_BACK, repeats, report_words, transcribe
from train.evaluation.report import (
    SpokenAnswers,
    report_answers,
    report_speech,
    report_text,
    report_timing,
    right_share,
)
from train.evaluation.speaking import Speaking
from train.evaluation.table import report_spread
from train.loop import begin_run


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured and on how much.

    splits: each reported apart; the first is also asked in writing and timed. sample: so many
    questions of each, evenly out of all; None: all. chunks: schedules in
    which answers are spoken and timed. spoken: answers per split that are vocoded and judged;
    timed: questions per schedule. device, dtype: as `omni.commands.starting.start` takes them.
    """

    splits: tuple[str, ...]
    sample: int | None = None
    chunks: tuple[str, ...] = ("10", "40", "all")
    spoken: int = 100
    timed: int = 20
    batch_size: int = 32
    max_new_tokens: int = 64
    device: str = "auto"
    dtype: str | None = None

    def __post_init__(self) -> None:
        for chunks in self.chunks:
            parse_schedule(chunks)  # now, not after an hour of answers


class Evaluation:
    """One checkpoint on one manifest."""

    def __init__(
        self,
        checkpoint: str | Path,
        manifest: Manifest,
        config: EvaluationConfig,
        output: Path,
        *,
        recogniser: Ear = POCKETSPHINX,
        restart: bool = False,
    ) -> None:
        """recogniser: the judge of what is said, as `choose_ear` gives it. restart: removes what
        `output` holds. Raises UserError if that is of another checkpoint, judge or other questions;
        more chunks or answers join it."""
        need("jiwer", "eval", "evaluation")
        self.config = config
        self.model, self.processor = start(checkpoint, device=config.device, dtype=config.dtype)
        self.manifest = manifest
        self.items = {
            split: spread(last_answers(examples(manifest, split)), config.sample)
            for split in config.splits
        }
        self._judged = {
            (split, kind): spread(repeats(items, kind), config.spoken)
            for split, items in self.items.items()
            for kind in SAID_BACK
        }
        hears = self.model.vocoder is not None or any(self._judged.values())
        if hears and recogniser is POCKETSPHINX:
            need("pocketsphinx", "eval", "hearing what a checkpoint says")
        voice = self.model.vocoder is not None
        kind = self.model.dtype
        made_of = {
            "data": data_of(manifest, *config.splits, heard=("user", "assistant"), units=True),
            "checkpoint": weights_digest(self.model, voice=voice),
            "max_new_tokens": config.max_new_tokens,
            "device": str(self.model.device),  # of the timings
            **({} if kind == torch.float32 else {"dtype": str(kind).removeprefix("torch.")}),
            "recogniser": " ".join([recogniser.name, recogniser.weights]).strip(),
        }
        begin_run(
            output, "evaluate", made_of, product="report.json", also_writes=["results.jsonl"],
            restart=restart, names={"checkpoint": str(checkpoint), "data": str(manifest.root)},
        )  # fmt: skip
        self._first = self.items[config.splits[0]]
        self._written = [item for item in self._first if item.question.text.strip()]
        self._refusals = known_refusals(manifest)
        answers = {turn.text for record in manifest.records for turn in record.turns[1::2]}
        self._listeners = Listeners(recogniser, sorted(answers))
        self.ears = LiveEars(self.processor, augmentation=None, seed=0)
        self.journal = Journal(output / "results.jsonl", made_of)

    def run(self) -> dict[str, Any]:
        """Measure what is not in the journal yet; the report of all of it."""
        for split, items in self.items.items():
            self._answer(f"answer {split}", items)
            self._answer(f"shuffled {split}", with_others_audio(items))
            self._losses(split, items)
            for kind in SAID_BACK:
                transcribe(self.journal, self._listeners, split, self._judged[split, kind])
        self._answer("written", [in_writing(item) for item in self._written])
        if self.model.vocoder is not None:
            speaking = Speaking(
                self.model.vocoder, self._listeners, self.journal, self.manifest, self.config.chunks
            )
            for split, items in self.items.items():
                speaking.speak(split, self._spoken(items))
            self._time()
        return self.report()

    def report(self) -> dict[str, Any]:
        """Numbers from the journal; all of them must have been measured."""
        ear = self._listeners.ear
        splits: dict[str, dict[str, Any]] = {}
        for split, items in self.items.items():
            found = splits[split] = report_text(self.journal, split, items)
            found |= report_refusals(
                self.journal, f"answer {split}", items, self._refusals, control=f"shuffled {split}"
            )
            for kind, place in SAID_BACK.items():
                if judged := self._judged[split, kind]:
                    found[place] = report_words(self.journal, split, judged, ear.normaliser)
            if self.model.vocoder is not None:
                spoken = SpokenAnswers(
                    items=self._spoken(items), chunks=self.config.chunks, ear=ear
                )
                found["speech"] = report_speech(self.journal, split, spoken)
        report: dict[str, Any] = {
            "splits": splits,
            "text_in_right": right_share(self.journal, "written", self._written),
            "text_in": report_answers(self.journal, "written", self._written)
            | report_refusals(self.journal, "written", self._written, self._refusals),
            "judge": {"name": ear.name, "normaliser": ear.normaliser, "weights": ear.weights},
            "threads": torch.get_num_threads(),
            "device": str(self.model.device),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "load_average": os.getloadavg()[0],
        }
        if self.model.vocoder is not None:
            report["timing"] = {
                chunks: report_timing(self.journal, chunks, self._timed())
                for chunks in self.config.chunks
            }
        return report | {"spread": report_spread(report)}

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

        self.journal.fill(label, items, make, batch_size=self.config.batch_size)

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
            rows = pad([dialogues[places[item.id]] for item in batch])
            tensors = on_device(rows, self.model.device)
            count = int((tensors["labels"] != IGNORE).sum())
            loss = float(self.model(**tensors).loss) * count
            said: list[Any] = [None] * len(batch)
            if self.model.unit_decoder is not None:
                inputs = self.model.teacher_forced_inputs(**tensors)
                said = best_units(self.model.unit_decoder(inputs))
            # A batch has one loss: its first row carries it.
            shares = [(loss, count)] + [(0.0, 0)] * (len(batch) - 1)
            return [
                {"loss": share[0], "tokens": share[1], "units": units}
                for share, units in zip(shares, said, strict=True)
            ]

        self.journal.fill(f"forced {split}", items, make, batch_size=self.config.batch_size)

    # speech

    def _time(self) -> None:
        """First audio and real-time factor, one question at a time, warmed up."""
        chosen = self._timed()
        for chunks in self.config.chunks:
            config = SessionConfig(
                schedule=parse_schedule(chunks), max_new_tokens=self.config.max_new_tokens
            )
            label = f"timed {chunks}"
            if self.journal.missing([f"{label} {item.id}" for item in chosen]):
                warm_up(self.model, self.processor, config)

            def ask(
                batch: Sequence[Example], config: SessionConfig = config
            ) -> list[dict[str, Any]]:
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

            self.journal.fill(label, chosen, ask)

    def _spoken(self, items: list[Example]) -> list[Example]:
        return spread(items, self.config.spoken)

    def _timed(self) -> list[Example]:
        single = [item for item in self._first if len(item.turns) == 2 and item.recordings]
        return spread(single, self.config.timed)
