"""What a checkpoint is worth on questions that it has not seen: right answers, and how they sound.

Every measurement is kept in a journal, so a stopped evaluation goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from data_tools.manifest import Manifest
from omni.audio import load_audio
from omni.commands import start, warm_up
from omni.ctc import best_units
from omni.files import need
from omni.frame_cache import CLEAN, weights_digest
from omni.prompt import IGNORE
from omni.session import Done, SessionConfig, SpeechSession
from omni.vocoder import StreamingVocoder, Vocoder, Whole, parse_schedule
from train.data import (
    Collate,
    Dialogues,
    Example,
    LiveEars,
    Prepared,
    data_of,
    examples,
    on_device,
)
from train.evaluation.answers import (
    generate,
    in_writing,
    last_answers,
    speak_answers,
    spread,
    stream,
    with_others_audio,
)
from train.evaluation.journal import Journal
from train.evaluation.judges import Judge, Recogniser
from train.evaluation.listeners import FULL_EARS, Listeners
from train.evaluation.report import (
    SpokenAnswers,
    report_speech,
    report_text,
    report_timing,
    right_share,
)
from train.loop import begin_run


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured and on how much.

    splits: each reported apart; the first is also asked in writing and timed. chunks: schedules in
    which answers are spoken and timed. spoken: answers per split that are vocoded and judged;
    timed: questions per schedule. device, dtype: as `omni.commands.starting.start` takes them.
    """

    splits: tuple[str, ...]
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
        recogniser: Callable[[Sequence[str] | None], Recogniser] = Judge,
        restart: bool = False,
    ) -> None:
        """recogniser: makes the judge of what is said, from the domain's sentences or, with None,
        for any speech. restart: removes what `output` holds. Raises UserError if that is of another
        checkpoint, judge or other questions; more chunks or answers join it."""
        need("jiwer", "eval", "evaluation")
        self.config = config
        self.model, self.processor = start(checkpoint, device=config.device, dtype=config.dtype)
        if self.model.vocoder is not None and recogniser is Judge:
            need("pocketsphinx", "eval", "hearing what a checkpoint says")
        self.manifest = manifest
        self.items = {split: last_answers(examples(manifest, split)) for split in config.splits}
        voice = self.model.vocoder is not None
        made_of = {
            "data": data_of(manifest, *config.splits, heard=("user", "assistant"), units=True),
            "checkpoint": weights_digest(self.model, voice=voice),
            "max_new_tokens": config.max_new_tokens,
            "device": str(self.model.device),  # of the timings
            "recogniser": f"{recogniser.__module__}.{recogniser.__qualname__}",
        }
        begin_run(
            output, "evaluate", made_of, product="report.json", also_writes=["results.jsonl"],
            restart=restart, names={"checkpoint": str(checkpoint), "data": str(manifest.root)},
        )  # fmt: skip
        self._first = self.items[config.splits[0]]
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
        self._answer("written", [in_writing(item) for item in self._first])
        if self.model.vocoder is not None:
            for split, items in self.items.items():
                self._speak(split, items)
            self._time()
        return self.report()

    def report(self) -> dict[str, Any]:
        """Numbers from the journal; all of them must have been measured."""
        splits = {}
        for split, items in self.items.items():
            splits[split] = report_text(self.journal, split, items)
            if self.model.vocoder is not None:
                spoken = SpokenAnswers(items=self._spoken(items), chunks=self.config.chunks)
                splits[split]["speech"] = report_speech(self.journal, split, spoken)
        report: dict[str, Any] = {
            "splits": splits,
            "text_in_right": right_share(self.journal, "written", self._first),
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

        self._fill(f"forced {split}", items, make, self.config.batch_size)

    # speech

    def _speak(self, split: str, items: list[Example]) -> None:
        """Vocode what was generated, per schedule, and let the judges hear it and the teacher.

        The full model and DNSMOS (where it is installed) are slow and good only for a difference:
        they hear the last schedule.
        """
        chosen = self._spoken(items)
        for chunks in self.config.chunks:
            speaker = StreamingVocoder(self._vocoder, parse_schedule(chunks))
            judges = FULL_EARS if chunks == self.config.chunks[-1] else ("domain",)

            def speak(
                batch: Sequence[Example],
                vocoder: StreamingVocoder = speaker,
                ears: Sequence[str] = judges,
            ) -> list[dict[str, Any]]:
                units = [self.journal[f"answer {split} {item.id}"]["units"] for item in batch]
                return [self._listeners.hear(stream(vocoder, row), ears) for row in units]

            self._fill(f"spoken {chunks} {split}", chosen, speak, 1)
        teacher = {item.answer.text: item for item in chosen if item.answer.speech is not None}
        self._fill(
            "teacher",
            list(teacher.values()),
            lambda batch: [
                self._listeners.hear(load_audio(self.manifest.audio_path(item.answer)), FULL_EARS)
                for item in batch
            ],
            1,
            key=lambda item: item.answer.text,
        )
        whole = StreamingVocoder(self._vocoder, Whole())
        self._fill(
            "vocoder",
            [item for item in teacher.values() if item.answer.units],
            lambda batch: [
                self._listeners.hear(stream(whole, i.answer.units or ()), FULL_EARS) for i in batch
            ],
            1,
            key=lambda item: item.answer.text,
        )

    @property
    def _vocoder(self) -> Vocoder:
        assert self.model.vocoder is not None  # only those that have one speak
        return self.model.vocoder

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

            self._fill(label, chosen, ask, 1)

    def _spoken(self, items: list[Example]) -> list[Example]:
        return spread(items, self.config.spoken)

    def _timed(self) -> list[Example]:
        single = [item for item in self._first if len(item.turns) == 2 and item.recordings]
        return spread(single, self.config.timed)

    def _fill(
        self,
        label: str,
        items: Sequence[Example],
        make: Callable[[Sequence[Example]], list[dict[str, Any]]],
        batch_size: int,
        key: Callable[[Example], str] = lambda item: item.id,
    ) -> None:
        missing = set(self.journal.missing([f"{label} {key(item)}" for item in items]))
        todo = [item for item in items if f"{label} {key(item)}" in missing]
        with tqdm(total=len(items), initial=len(items) - len(todo), desc=label) as bar:
            for start in range(0, len(todo), batch_size):
                batch = todo[start : start + batch_size]
                made = make(batch)
                self.journal.add(
                    {f"{label} {key(item)}": row for item, row in zip(batch, made, strict=True)}
                )
                bar.update(len(batch))
