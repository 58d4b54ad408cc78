"""Measuring a checkpoint: answers, controls, what is heard, and a report that adds up."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.manifest.record import Manifest, read_manifest
from omni.audio import load_audio
from omni.files import UserError
from omni.prompt import Message
from omni.session.config import SessionConfig
from omni.session.events import Done
from omni.session.session import SpeechSession
from omni.vocoder.chunking import Fixed, Whole
from omni.vocoder.streaming import StreamingVocoder
from tests.paths import DATA
from tests.tiny import question, tiny_model, tiny_processor, tiny_records
from train.data.batches import Example, Prepared, examples
from train.evaluation.answers import (
    generate,
    in_writing,
    last_answers,
    speak_answers,
    stream,
    with_others_audio,
)
from train.evaluation.evaluate import Evaluation, EvaluationConfig
from train.evaluation.journal import Journal
from train.evaluation.judges import Judge, bigram_arpa
from train.evaluation.report import has_number, is_right, report_text
from train.evaluation.table import table_rows

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return read_manifest(tiny_records(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    tiny_model().save_pretrained(folder, self_contained=True, processor=tiny_processor())
    return folder


def test_answers_in_a_batch_are_those_of_sessions_one_by_one() -> None:
    model, processor = tiny_model(), tiny_processor()
    recordings = [question(seconds, seed) for seed, seconds in enumerate((0.6, 1.1))]
    prompts = []
    for recording in recordings:
        mel = processor.features(recording)
        message = Message(role="user", positions=processor.positions(mel.shape[1]))
        prompts.append(Prepared(processor.prompt([message]).ids, [], [mel]))
    answers = generate(model, processor, prompts, 12)
    units = speak_answers(model, processor, prompts, answers)
    for recording, ids, said in zip(recordings, answers, units, strict=True):
        config = SessionConfig(schedule=Whole(), max_new_tokens=12, speak=False)
        *_, done = SpeechSession(model, processor, config).ask(recording)
        assert isinstance(done, Done)
        assert ids == done.token_ids and said == done.units


def test_streamed_answers_are_as_long_as_whole_ones() -> None:
    vocoder = tiny_model().vocoder
    units = list(range(15))
    whole = stream(StreamingVocoder(vocoder, Whole()), units)
    assert len(stream(StreamingVocoder(vocoder, Fixed(4)), units)) == len(whole) > 0
    assert stream(StreamingVocoder(vocoder, Fixed(4)), []).shape == (0,)


def test_the_control_asks_every_question_with_another_ones_voice(manifest: Manifest) -> None:
    items = examples(manifest, "train")
    for own, other in zip(items, with_others_audio(items), strict=True):
        assert other.answer == own.answer and other.recordings[:-1] == own.recordings[:-1]
        assert other.recordings[-1] != own.recordings[-1]


def test_questions_in_writing_have_no_recordings(manifest: Manifest) -> None:
    item = in_writing(examples(manifest, "train")[0])
    assert item.recordings == () and all(turn.speech is None for turn in item.turns[::2])
    assert item.question.text


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("two and two is four", True),
        ("Two and two, is FOUR!", True),
        ("Two and two is five.", False),
        ("Two and two is four. Four.", False),
    ],
)
def test_an_answer_is_right_if_its_words_are(said: str, right: bool) -> None:
    assert is_right(said, "Two and two is four.") == right


def test_numbers_are_told_by_their_words() -> None:
    assert has_number("A cat has four legs.") and not has_number("Rome is in Italy.")


def test_a_bigram_model_gives_each_history_a_probability_of_one() -> None:
    sentences = ["the cat sat", "the dog sat down", "a cat"]
    lines = bigram_arpa(sentences).splitlines()
    middle = lines.index("\\2-grams:")
    unigrams = {line.split()[1]: line.split() for line in lines[5 : middle - 1]}
    bigrams = [line.split() for line in lines[middle + 1 : -2] if line]
    words = [word for word in unigrams if word != "<s>"]
    assert sum(10 ** float(unigrams[word][0]) for word in words) == pytest.approx(1, abs=1e-3)
    for history in ("<s>", "the", "cat", "sat"):
        seen = {right: 10 ** float(p) for p, left, right in bigrams if left == history}
        backoff = 10 ** float(unigrams[history][2])
        unseen = sum(backoff * 10 ** float(unigrams[w][0]) for w in words if w not in seen)
        assert sum(seen.values()) + unseen == pytest.approx(1, abs=1e-3)


def test_a_bigram_model_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="hold no word"):
        bigram_arpa(["", " "])


def test_the_judge_hears_what_is_said_in_a_recording() -> None:
    judge = Judge(["What is the capital of France?", "And how many people live there?"])
    waveform = load_audio(DATA / "llama_omni" / "question_slt.flac")
    said = "what is the capital of france and how many people live there"
    assert judge.hear(waveform) == said
    assert judge.hear(np.zeros(8000, np.float32)) != said


def test_words_that_the_judge_cannot_hear_are_named(caplog: pytest.LogCaptureFixture) -> None:
    Judge(["The glorxes are blue."])
    assert "glorxes: not in its dictionary" in caplog.text


def test_a_journal_goes_on_after_a_torn_line_and_refuses_another_run(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Journal(path, {"model": "a"}).add({"x": 1, "y": {"z": [2]}})
    with path.open("a") as file:
        file.write('["torn", ')
    journal = Journal(path, {"model": "a"})
    assert journal["y"] == {"z": [2]} and journal.missing(["x", "torn"]) == ["torn"]
    journal.add({"torn": 3})
    assert Journal(path, {"model": "a"})["torn"] == 3
    with pytest.raises(ValueError, match="another checkpoint or manifest; remove it"):
        Journal(path, {"model": "b"})


def test_the_report_counts_right_answers_by_skill_and_numbers(
    tmp_path: Path, manifest: Manifest
) -> None:
    items: list[Example] = examples(manifest, "validation", "test")
    journal = Journal(tmp_path / "results.jsonl", {})
    for place, item in enumerate(items):
        text = item.answer.text if place else "nonsense"
        journal.add(
            {
                f"answer held_out {item.id}": {"text": text},
                f"shuffled held_out {item.id}": {"text": ""},
                f"forced held_out {item.id}": {
                    "loss": 2.0, "tokens": 4, "units": list(item.answer.units or ()),
                },
            }
        )  # fmt: skip
    report = report_text(journal, "held_out", items)
    assert report["right"] == pytest.approx(1 - 1 / len(items))
    assert report["right_shuffled_audio"] == 0
    assert report["loss"] == 0.5 and report["unit_error_rate"] == 0
    assert report["right_by_skill"][items[0].skill] < 1
    numbers = [item for item in items if has_number(item.answer.text)]
    wrong = sum(item.id == items[0].id for item in numbers)
    assert report["right_numbers"] == pytest.approx(1 - wrong / len(numbers))
    rows = dict((name.strip(), cell) for name, cell in table_rows({"splits": {"held_out": report}}))
    assert rows["right answers"] == f"{report['right']:.1%}"


@pytest.mark.parametrize("dnsmos", [None, lambda waveform: 1.0 + float(np.abs(waveform).max())])
def test_an_evaluation_measures_everything_once(
    checkpoint: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dnsmos
) -> None:
    monkeypatch.setattr(
        "train.evaluation.listeners.load_dnsmos", lambda: dnsmos
    )  # extra `metrics` or not
    config = EvaluationConfig(
        splits=("validation", "test"), chunks=("4", "all"), spoken=1, timed=1, max_new_tokens=6
    )
    report = Evaluation(checkpoint, manifest, config, tmp_path).run()
    assert set(report["splits"]) == {"validation", "test"}
    speech = report["splits"]["test"]["speech"]
    assert set(speech["wer_domain"]) == {"4", "all", "teacher", "vocoder"}
    assert set(speech["wer_full"]) == {"all", "teacher", "vocoder"}
    scores = speech["dnsmos"]
    assert set(scores) == (set() if dnsmos is None else {"all", "teacher", "vocoder"})
    assert all(1.0 < score <= 2.0 for score in scores.values())
    assert report["timing"]["4"]["first_audio_ms_median"] > 0
    assert math.isfinite(report["splits"]["validation"]["loss"])
    lines = (tmp_path / "results.jsonl").read_text().count("\n")
    again = Evaluation(checkpoint, manifest, config, tmp_path).run()
    assert (tmp_path / "results.jsonl").read_text().count("\n") == lines
    assert again["splits"] == report["splits"]


def test_another_number_format_is_another_evaluation(
    checkpoint: Path, manifest: Manifest, tmp_path: Path
) -> None:
    config = EvaluationConfig(
        splits=("test",), chunks=("all",), spoken=1, timed=1, max_new_tokens=6
    )
    Evaluation(checkpoint, manifest, config, tmp_path)
    with pytest.raises(UserError, match="dtype"):
        Evaluation(checkpoint, manifest, replace(config, dtype=torch.bfloat16), tmp_path)


def test_a_sample_is_taken_evenly_and_a_larger_one_joins_it(
    checkpoint: Path, manifest: Manifest, tmp_path: Path
) -> None:
    whole = last_answers(examples(manifest, "train"))
    assert len(whole) > 2

    def asked(sample: int | None) -> Evaluation:
        config = EvaluationConfig(
            splits=("train",), sample=sample, chunks=("all",), spoken=1, timed=1, max_new_tokens=6
        )
        return Evaluation(checkpoint, manifest, config, tmp_path)

    assert asked(2).items["train"] == [whole[0], whole[len(whole) // 2]]
    assert asked(None).items["train"] == asked(99).items["train"] == whole
    asked(1).run()
    before = (tmp_path / "results.jsonl").read_text()
    asked(2).run()
    after = (tmp_path / "results.jsonl").read_text()
    assert after.startswith(before) and len(after) > len(before)
