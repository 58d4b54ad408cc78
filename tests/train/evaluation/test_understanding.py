"""What the report says of words understood, refusals, writing, and the spread of voices."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_tools.manifest.record import Manifest, Record, RecordTurn, read_manifest
from data_tools.sources.repeating import to_repeat
from tests.tiny import tiny_model, tiny_processor, tiny_records
from tests.tiny_whisper import write_transformers
from train.data.batches import Example, examples
from train.evaluation.choosing import choose_ear
from train.evaluation.evaluate import Evaluation, EvaluationConfig
from train.evaluation.journal import Journal
from train.evaluation.judges import Ear
from train.evaluation.refusing import is_refusal, known_refusals, report_refusals
from train.evaluation.repeating import repeats, report_words
from train.evaluation.report import (
    SpokenAnswers,
    agreement,
    report_answers,
    report_speech,
)
from train.evaluation.table import SPREAD, report_spread, table_head, table_rows

torch.set_num_threads(1)


def record(name: str, kind: str, asked: str, answer: str, skill: str = "x") -> Record:
    turns = (
        RecordTurn(role="user", text=asked, speech=f"{name}.wav"),
        RecordTurn(role="assistant", text=answer, speech=f"{name}.answer.wav"),
    )
    return Record(
        id=name, turns=turns, split="test", provenance={"kind": kind, "skill": skill}
    )  # fmt: skip


def as_prose(item: Record) -> Record:
    """A sentence of prose that is to be said back."""
    return replace(item, provenance=item.provenance | {"kind": "prose", "skill": "prose"})


CAUGHT = "I did not catch that."
RECORDS = [
    record("fact", "domain", "What is two and two?", "Two and two is four."),
    record("other", "domain", "Who is there?", "It is me."),
    record("honest", "open", "Who built it?", "I am not sure about that."),
    record("noise", "refuse", "", CAUGHT, "sound"),
    record("german", "refuse", "Wie heißt du?", CAUGHT, "language"),
    record("news", "refuse", "Who won?", "I can not follow games.", "now"),
    to_repeat(record("words", "", "turn off the five lights", "")),
    to_repeat(record("more", "", "good morning", "")),
    as_prose(to_repeat(record("tale", "", "the ship came home at last", ""))),
]
MANIFEST = Manifest(records=RECORDS, root=Path())
KNOWN = known_refusals(MANIFEST)


def of(name: str) -> Example:
    return next(i for i in examples(MANIFEST, "test") if i.id == f"{name}#{name in WISHES:d}")


WISHES = ("words", "more", "tale")  # their second answer counts


def journal_of(path: Path, label: str, answers: dict[str, str], field: str = "text") -> Journal:
    journal = Journal(path, {})
    journal.add({f"{label} {of(name).id}": {field: text} for name, text in answers.items()})
    return journal


def test_words_understood_stand_beside_what_the_judge_hears(tmp_path: Path) -> None:
    items = repeats([of(name) for name in ("fact", "words", "tale", "more")], "repeat")
    assert [item.question.text for item in items] == ["turn off the five lights", "good morning"]
    path = tmp_path / "results.jsonl"
    journal_of(path, "answer x", {"words": "turn on the 5 lights", "more": "good morning"})
    journal_of(path, "shuffled x", {"words": "good morning", "more": "turn off the 5 lights"})
    journal = journal_of(path, "judged x", {"words": "Turn off 5 lights.", "more": "x y"}, "full")
    report = report_words(journal, "x", items, "whisper-en")
    assert report["recordings"] == 2 and report["exact"] == 0.5
    assert report["wer"] == pytest.approx(1 / 7)
    assert report["wer_judge"] == pytest.approx(3 / 7)
    assert report["above_judge"] == pytest.approx(-2 / 7)
    assert report["wer_shuffled_audio"] >= 1


def test_prose_that_is_said_back_is_counted_apart(tmp_path: Path) -> None:
    everything = [of(name) for name in ("fact", "words", "tale", "more")]
    (item,) = items = repeats(everything, "prose")
    assert item.question.text == "the ship came home at last"
    path = tmp_path / "results.jsonl"
    journal_of(path, "answer x", {"tale": "the sheep came home"})
    journal_of(path, "shuffled x", {"tale": "good morning"})
    journal = journal_of(path, "judged x", {"tale": "The ship came home at last."}, "full")
    prose = report_words(journal, "x", items, "whisper-en")
    assert (prose["recordings"], prose["wer_judge"], prose["exact"]) == (1, 0, 0)
    assert prose["wer"] == prose["above_judge"] == pytest.approx(3 / 6)
    splits = {"a": split_report(0.5) | {"words": prose | {"wer": 0.25}, "words_of_prose": prose}}
    shown = [row for row in table_rows({"splits": splits}) if row[0].startswith("words understood")]
    assert [share for _, share in shown] == ["25.0%", "50.0%"]


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (CAUGHT, True),
        ("i can NOT follow games", True),  # the manifest's own
        ("I do not know John.", True),
        ("Sorry, but I didn't quite catch that", True),
        ("I'm not sure.", True),
        ("I know that Paris is in France.", False),
        ("The answer is that I do not know.", False),
        ("I do like games.", False),
    ],
)
def test_a_refusal_is_known_by_the_manifest_or_by_how_it_begins(said: str, refusal: bool) -> None:
    assert is_refusal(said, KNOWN) == refusal


def test_refusals_are_counted_by_what_is_to_be_refused_and_of_questions(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    said = {
        "fact": CAUGHT, "other": "It is me.", "honest": CAUGHT, "noise": "I did not hear you.",
        "german": "It is me.", "news": "I do not know.", "words": "turn", "more": "morning",
    }  # fmt: skip
    items = [of(name) for name in said]
    journal_of(path, "answer x", said)
    journal = journal_of(path, "shuffled x", dict.fromkeys(said, CAUGHT))
    report = report_refusals(journal, "answer x", items, KNOWN, control="shuffled x")
    assert report["ordinary"] == 4  # what is honestly not known may be refused
    assert report["questions_refused"] == 0.25
    assert report["questions_refused_shuffled_audio"] == 1
    assert report["refused"] == {"language": 0, "sound": 1, "unknown": 1}
    assert report["to_refuse"] == {"language": 1, "sound": 1, "unknown": 1}


def test_nothing_is_said_of_refusals_where_nothing_is_to_be_refused() -> None:
    assert report_refusals(Journal.__new__(Journal), "x", [], frozenset()) == {}


def test_answers_agree_by_the_words_that_they_share(tmp_path: Path) -> None:
    assert agreement("It is me!", "it is me") == 1
    assert agreement("it is", "It is me") == pytest.approx(0.8)
    assert agreement("no", "It is me") == 0 and agreement("", "it") == 0
    said = {"fact": "Two and two is five.", "other": "It is me."}
    journal = journal_of(tmp_path / "results.jsonl", "written", said)
    report = report_answers(journal, "written", [of(name) for name in said])
    assert report["right"] == 0.5 and report["agreement"] == pytest.approx(0.9)
    assert report["by_kind"]["domain"]["questions"] == 2


def test_speech_is_set_against_the_teacher_as_the_judges_normaliser_has_it(
    tmp_path: Path,
) -> None:
    items = [of("fact"), of("other")]
    journal = journal_of(
        tmp_path / "results.jsonl", "answer x", {"fact": "two and two is four", "other": "it is"}
    )
    heard = {"fact": "2 and 2 is 4 4", "other": "it was"}
    for name, text in heard.items():
        journal.add({f"spoken all x {of(name).id}": {"full": text, "seconds": 1.0}})
    for name, text in {"fact": "Two and 2 is 4.", "other": "It is."}.items():
        journal.add({f"teacher {of(name).answer.text}": {"full": text, "seconds": 1.0}})
    ear = Ear(make=lambda _: None, name="x", normaliser="whisper-en")  # type: ignore[arg-type]
    spoken = SpokenAnswers(items=items, chunks=("all",), ear=ear)
    report = report_speech(journal, "x", spoken)
    assert set(report) >= {"wer_full", "above_teacher_full"} and "wer_domain" not in report
    assert report["wer_full"]["all"] == pytest.approx(2 / 7)  # of the model's own words
    assert report["wer_full"]["teacher"] == pytest.approx(1 / 8)
    assert report["above_teacher_full"]["all"] == pytest.approx(2 / 7 - 1 / 8)
    assert report["equal_sentences"] == 1  # said by both
    assert report["above_teacher_equal_full"]["all"] == pytest.approx(1 / 5)


def split_report(right: float, ordinary: int = 9) -> dict[str, object]:
    return {"right": right, "ordinary": ordinary, "refused": {"sound": 0.9}}


def test_several_voices_are_shown_with_their_spread() -> None:
    splits = {"a": split_report(0.5), "b": split_report(0.9), "c": split_report(0.8)}
    report = {"splits": {**splits, "noise": split_report(0.1, ordinary=0)}}
    assert table_head(report) == ["a", "b", "c", "noise", SPREAD]
    assert table_rows(report)[0] == (
        "right answers", "50.0%", "90.0%", "80.0%", "10.0%", "50.0% to 90.0%",
    )  # fmt: skip
    assert report_spread(report)["right"] == {"lowest": 0.5, "median": 0.8, "highest": 0.9}


def test_two_splits_need_no_spread() -> None:
    report = {"splits": {"a": split_report(0.5), "b": split_report(0.9)}}
    assert table_head(report) == ["a", "b"] and report_spread(report) == {}
    assert table_rows(report)[0] == ("right answers", "50.0%", "90.0%")


def repeated(manifest: Manifest, splits: Sequence[str]) -> Manifest:
    """Its questions of the first split to be said back; of the last, one is refused and the others
    are prose."""
    records: list[Record] = []
    for item in manifest.records:
        if item.split == splits[0]:
            item = to_repeat(item)
        elif item.split == splits[-1] and any(made.split == splits[-1] for made in records):
            item = as_prose(to_repeat(item))
        elif item.split == splits[-1]:
            item = replace(item, provenance={"kind": "refuse", "skill": "sound"})
        records.append(item)
    return Manifest(records=records, root=manifest.root)


def test_an_evaluation_by_whisper_measures_words_and_refusals_once(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    tiny_model().save_pretrained(folder, self_contained=True, processor=tiny_processor())
    manifest = repeated(
        read_manifest(tiny_records(tmp_path / "data")), ("validation", "test")
    )  # fmt: skip
    ear = choose_ear(str(write_transformers(tmp_path / "tiny")))
    config = EvaluationConfig(
        splits=("validation", "test"), chunks=("4", "all"), spoken=1, timed=1, max_new_tokens=6
    )
    output = tmp_path / "out"
    report = Evaluation(folder, manifest, config, output, recogniser=ear).run()
    words = report["splits"]["validation"]["words"]
    assert words["recordings"] == 1 and words["wer"] > 0 and words["wer_judge"] > 0
    prose = report["splits"]["test"]["words_of_prose"]
    assert prose["recordings"] == 1 and prose["wer"] > 0 and prose["wer_judge"] > 0
    assert "words" not in report["splits"]["test"]
    assert "words_of_prose" not in report["splits"]["validation"]
    assert report["splits"]["test"]["refused"] == {"sound": 0}
    speech = report["splits"]["test"]["speech"]
    assert set(speech["wer_full"]) == {"4", "all", "teacher", "vocoder"}
    assert set(speech["above_teacher_full"]) == {"4", "all"} and "wer_domain" not in speech
    assert report["judge"]["name"] == "Whisper tiny by transformers"
    assert report["text_in"]["by_kind"]["repeat"]["questions"] == 2
    lines = (output / "results.jsonl").read_text().count("\n")
    again = Evaluation(folder, manifest, config, output, recogniser=ear).run()
    assert (output / "results.jsonl").read_text().count("\n") == lines
    assert again["splits"] == report["splits"]
    with pytest.raises(ValueError, match="recogniser"):
        Evaluation(folder, manifest, config, output)
