"""The nano's data set: who asks what, and what lies in the folder."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_tools.manifest.record import Manifest, read_manifest
from data_tools.nano.asks import KNOWN, WIDE, nano_asks
from data_tools.nano.plan import plan
from data_tools.speech.speak import SAMPLE_RATE
from data_tools.speech.voices import ANSWER_VOICE, Voice
from data_tools.talk import HELD_OUT, REFUSE, asking_voices
from tests.nano_data import ASKS, Tones, build, split

ENTRIES = ("records.jsonl", "text.jsonl", "reading.jsonl", "state.json", "audio")
HELD_OUT_TESTS = {
    f"test_{kind}_{name}": voice for kind in (KNOWN, WIDE) for name, voice in HELD_OUT.items()
}


def test_every_turn_has_a_16_khz_mono_recording_and_no_other_file_lies_there(
    folder: Path, manifest: Manifest
) -> None:
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(ENTRIES)
    reading = read_manifest(folder / "reading.jsonl").records
    spoken = [turn for record in [*manifest.records, *reading] for turn in record.turns]
    paths = {manifest.audio_path(turn) for turn in spoken if turn.speech}
    assert paths == set((folder / "audio").rglob("*.*"))
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")


def test_a_recording_holds_its_text_in_its_voice(manifest: Manifest) -> None:
    for turn in manifest.records[0].turns:
        heard, _ = soundfile.read(manifest.audio_path(turn), dtype="float32")
        spoken = Tones().speak(turn.text, Voice.parse(turn.voice or ""))
        np.testing.assert_allclose(heard, spoken, atol=1e-4)


def test_all_training_phrasings_are_asked_before_any_is_repeated(manifest: Manifest) -> None:
    train = split(manifest, "train")
    assert 20 <= sum(len(record.turns) // 2 for record in train) <= 23
    for kind, phrasings in ((KNOWN, 5), (WIDE, 8), (REFUSE, 2)):
        asked = Counter(r.provenance["dialogue"] for r in train if r.provenance["kind"] == kind)
        assert len(asked) == min(phrasings, sum(asked.values()))
        assert max(asked.values()) - min(asked.values()) <= 1


def test_a_phrasing_is_repeated_by_another_voice(manifest: Manifest) -> None:
    asked = [
        (record.provenance["dialogue"], record.turns[0].voice)
        for record in manifest.records
        if record.turns[0].text  # a sound has no other voice
    ]
    assert len(set(asked)) == len(asked)


def test_one_voice_asks_all_questions_of_a_dialogue_and_one_voice_answers_all(
    manifest: Manifest,
) -> None:
    for record in manifest.records:
        assert len({turn.voice for turn in record.turns[::2]}) == 1
        assert {turn.voice for turn in record.turns[1::2]} == {str(ANSWER_VOICE)}


def test_what_is_held_out_is_asked_by_seen_voices_and_by_each_that_is_never_trained_on(
    manifest: Manifest,
) -> None:
    def asked(name: str) -> list[list[str]]:
        return [[turn.text for turn in record.turns] for record in split(manifest, name)]

    assert len(asked("validation")) == 3
    assert (len(asked("test_known")), len(asked("test_wide"))) == (2, 1)
    for name, voice in HELD_OUT_TESTS.items():
        assert asked(name) == asked(name.rpartition("_")[0])
        assert {record.turns[0].voice for record in split(manifest, name)} == {str(voice)}
    never = {(voice.engine, voice.name) for voice in HELD_OUT.values()}
    for record in manifest.records:
        voice = Voice.parse(record.turns[0].voice or "")
        assert ((voice.engine, voice.name) in never) == (record.split in HELD_OUT_TESTS)


def test_refusals_have_tests_of_their_own(manifest: Manifest) -> None:
    (sound,), (unknown,) = split(manifest, "test_refuse"), split(manifest, "test_unknown")
    assert (sound.turns[0].text, sound.turns[1].text) == ("", "What?")
    assert sound.turns[0].speech and sound.provenance["kind"] == REFUSE
    assert unknown.turns[0].text == "What is now test 4?"


def test_the_whole_domain_is_asked_with_whole_templates_held_out() -> None:
    spoken = plan(nano_asks(seed=0), asking_voices(), questions=20_000, seed=0)
    names = ("train", "validation", "test_known", "test_wide", "test_unknown", "test_refuse")
    of = {name: [item.ask for item in spoken if item.split == name] for name in names}
    assert sum(ask.spoken for ask in of["train"]) == pytest.approx(20_000, abs=6)
    kinds = Counter(ask.kind for ask in of["train"])
    assert kinds[WIDE] > 3 * kinds[KNOWN] and kinds[KNOWN] > kinds[REFUSE] > 1_900
    trained = {ask.template for ask in of["train"] if ask.kind == WIDE}
    tested = {ask.template for ask in of["test_wide"]}
    assert len(of["test_wide"]) == 300 and len(tested) > 140 and not tested & trained
    said = {ask.turns[-1][0].casefold() for ask in of["train"]}
    for name in ("validation", "test_wide", "test_unknown"):
        heard = {ask.turns[-1][0].casefold() for ask in of[name] if len(ask.turns) == 1}
        assert not (heard - {""}) & said
    assert {ask.skill for ask in of["test_refuse"]} == {"sound", "language"}
    # The known ones are called what they are: their templates and their facts are trained on.
    known = {ask.template for ask in of["train"] if ask.kind == KNOWN}
    assert {ask.template for ask in of["test_known"]} <= known


def test_equal_answers_share_one_recording(folder: Path, manifest: Manifest) -> None:
    answers = {t.text: t.speech for r in manifest.records for t in r.turns[1::2]}
    assert len(set(answers.values())) == len(answers) == 5
    assert len(list((folder / "audio/answers").iterdir())) == 5


def test_the_voice_of_the_answers_reads_each_training_question_once_and_no_other(
    folder: Path, manifest: Manifest
) -> None:
    read = [record.turns[1] for record in read_manifest(folder / "reading.jsonl").records]
    train = [r for r in manifest.records if r.split == "train" and r.provenance["kind"] != REFUSE]
    asked = {turn.text for record in train for turn in record.turns[::2]}
    assert sorted(turn.text for turn in read) == sorted(asked)
    assert {turn.voice for turn in read} == {str(ANSWER_VOICE)}


def test_text_holds_the_whole_domain_and_the_refusals_that_have_words(folder: Path) -> None:
    records = read_manifest(folder / "text.jsonl").records
    domain = [*ASKS[KNOWN], *ASKS[WIDE]]
    assert [record.id for record in records][: len(domain)] == [ask.id for ask in domain]
    assert [record.split for record in records][: len(domain)] == [ask.split for ask in domain]
    more = {record.turns[0].text for record in records[len(domain) :]}
    assert more == {"What is now train 1?", "What is now test 4?"}
    assert not any(turn.speech or turn.voice for record in records for turn in record.turns)
    assert records[4].turns[2].text == "train known question 4 part 1?"


def test_the_summary_counts_what_lies_there(folder: Path, manifest: Manifest) -> None:
    summary = build(folder)
    assert summary.made_clips == 0
    assert summary.records == Counter(record.split for record in manifest.records)
    wavs = list(folder.rglob("*.wav"))
    assert summary.clips == len(wavs)
    seconds = sum(soundfile.info(path).duration for path in wavs)
    assert sum(summary.hours.values()) * 3600 == pytest.approx(seconds)
