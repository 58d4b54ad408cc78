"""Speaking a data set with Debian's engines: who speaks, what is kept, what is left out."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import data_tools.speech.tts
from data_tools.check.text import pairing
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Manifest, Record, read_manifest
from data_tools.speech.clips import ClipRules, faults, measure, spoken_letters
from data_tools.speech.speak import SAMPLE_RATE, FliteEngine
from data_tools.speech.speak_step import SpeakerConfig, SpeakStep
from data_tools.speech.tts import CommandConfig
from data_tools.speech.voices import Voice
from data_tools.steps.steps import step_over_file
from omni.files.errors import UserError

VOICES = tuple(Voice.parse(f"flite-{name}") for name in ("awb", "kal16", "rms"))
STEP = SpeakStep(question=SpeakerConfig(voices=VOICES))


def dialogue(name: str, *texts: str, split: str = "train") -> Record:
    roles = ("user", "assistant")
    turns = tuple(RecordTurn(role=roles[n % 2], text=text) for n, text in enumerate(texts))  # type: ignore[arg-type]
    return Record(id=name, turns=turns, split=split, provenance={"source": "here"})


RECORDS = [dialogue(f"q{number}", f"What is {number}?", "It is even.") for number in range(6)] + [
    dialogue("long", "Where is Rome?", "In Italy.", "And Paris?", "In France.")
]


@pytest.fixture
def speak(tmp_path) -> Callable[..., Manifest]:
    def run(records: list[Record] = RECORDS, step: SpeakStep = STEP, **options) -> Manifest:
        source = Manifest(records=records, root=tmp_path)
        step_over_file(source, step, tmp_path / "out.jsonl", **options)
        return read_manifest(tmp_path / "out.jsonl")

    return run


def test_a_drawn_voice_asks_one_voice_answers_and_a_dialogue_keeps_its_asker(speak):
    manifest = speak()
    assert [record.id for record in manifest.records] == [record.id for record in RECORDS]
    askers = [{turn.voice for turn in record.turns[::2]} for record in manifest.records]
    assert all(len(voices) == 1 for voices in askers)
    assert len(set.union(*askers)) > 1
    answers = {turn.voice for record in manifest.records for turn in record.turns[1::2]}
    assert answers == {"flite-slt"}
    for record in manifest.records:
        for turn in record.turns:
            info = soundfile.info(manifest.audio_path(turn))
            assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 1, "PCM_16")
        assert record.provenance["source"] == "here" and "flite" in record.provenance["speech"]


def test_equal_words_of_one_voice_are_one_file(speak, tmp_path):
    manifest = speak()
    even = {
        turn.speech for record in manifest.records for turn in record.turns if "even" in turn.text
    }
    assert len(even) == 1
    texts = {(turn.text, turn.voice) for record in manifest.records for turn in record.turns}
    assert len(list(tmp_path.rglob("*.wav"))) == len(texts)


def test_the_seed_and_the_id_draw_the_voice_whatever_else_is_in_the_set(speak):
    voices = {record.id: record.turns[0].voice for record in speak().records}
    alone = speak(RECORDS[3:5])
    assert all(record.turns[0].voice == voices[record.id] for record in alone.records)
    other = {r.id: r.turns[0].voice for r in speak(step=replace(STEP, seed=1)).records}
    assert other != voices


def test_a_split_may_have_speakers_of_its_own(speak):
    held_out = {"test": (Voice("flite", "slt"),)}
    step = SpeakStep(question=SpeakerConfig(voices=VOICES, by_split=held_out))
    records = [dialogue("a", "Who?", "Me.", split="test"), dialogue("b", "Who?", "Me.")]
    test, train = speak(records, step).records
    assert test.turns[0].voice == "flite-slt" and train.turns[0].voice != "flite-slt"


def test_with_the_answers_alone_the_questions_stay_in_writing_as_the_check_expects(speak):
    alone = replace(STEP, roles=("assistant",))
    manifest = speak(step=alone)
    assert len(manifest.records) == len(RECORDS)
    for record in manifest.records:
        questions, answers = record.turns[::2], record.turns[1::2]
        assert not any(turn.speech or turn.voice for turn in questions)
        assert all(manifest.audio_path(turn).is_file() for turn in answers)
        assert record.provenance["written_turns"] == str(len(questions))
    both = speak([dialogue("both", "Who?", "Me.")]).records
    assert not list(pairing([*manifest.records, *both]))


def test_roles_that_are_none_are_refused():
    with pytest.raises(UserError, match=r"roles=\['answer'\]: must be one or both of user, assist"):
        SpeakStep(roles=("answer",))
    with pytest.raises(UserError, match=r"roles=\[\]"):
        SpeakStep(roles=())


def test_recordings_that_are_there_stay_and_a_named_voice_is_used(speak, tmp_path):
    (tmp_path / "mine.wav").write_bytes(b"not touched")
    mine = RecordTurn(role="user", text="Hello.", speech="mine.wav")
    named = RecordTurn(role="assistant", text="Good day.", voice="flite-rms")
    (spoken,) = speak([Record(id="x", turns=(mine, named))]).records
    assert spoken.turns[0] == mine
    assert spoken.turns[1].voice == "flite-rms" and spoken.turns[1].speech


def test_a_text_without_words_leaves_its_record_out(speak, tmp_path):
    manifest = speak([*RECORDS, dialogue("empty", "?!", "What?")])
    assert "empty" not in {record.id for record in manifest.records}
    assert "nothing to say" in (tmp_path / "out.left_out.jsonl").read_text()


class Stutters(FliteEngine):
    """rms says everything three times, so that its clips are too slow for their texts."""

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        waveform = super().speak(text, voice)
        return np.tile(waveform, 9) if voice.name == "rms" else waveform


def test_a_clip_that_fails_its_check_is_spoken_by_another_voice_and_never_kept(
    speak, tmp_path, monkeypatch
):
    class Engines(data_tools.speech.tts.InstalledEngines):
        def engine(self, name: str):
            return self.started.setdefault("flite", Stutters())

    monkeypatch.setattr(data_tools.speech.tts, "InstalledEngines", Engines)
    monkeypatch.setattr("data_tools.speech.speak_step.InstalledEngines", Engines)
    manifest = speak(step=replace(STEP, attempts=9))
    assert len(manifest.records) == len(RECORDS)
    assert {r.turns[0].voice for r in manifest.records} <= {"flite-awb", "flite-kal16"}
    only = SpeakStep(question=SpeakerConfig(voices=VOICES[2:]))
    before = set(tmp_path.rglob("*.wav"))
    assert speak(step=only).records == []
    assert "too slow" not in (tmp_path / "out.left_out.jsonl").read_text()
    assert "letters in" in (tmp_path / "out.left_out.jsonl").read_text()
    assert {path.read_bytes() for path in set(tmp_path.rglob("*.wav")) - before} <= {
        path.read_bytes() for path in before
    }


def test_answers_have_exactly_one_voice():
    with pytest.raises(UserError, match="exactly one voice"):
        SpeakStep(answer=SpeakerConfig(voices=VOICES))


def test_a_voice_of_another_engine_is_refused():
    with pytest.raises(UserError, match="takes command voices"):
        SpeakerConfig(engine=CommandConfig(command="say {out}"), voices=VOICES)
    with pytest.raises(UserError, match="needs voices"):
        SpeakerConfig(engine=CommandConfig(command="say {out}"))


def clip(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.2)).astype(np.float32)


@pytest.mark.parametrize(
    ("waveform", "text", "rule"),
    [
        (np.zeros(0, np.float32), "", "empty"),
        (clip(2.0, 1e-4), "Where is the station?", "silent"),
        (np.pad(clip(0.5), (0, 48_000)), "Where is it?", "silent"),
        (np.clip(clip(2.0, 3.0), -1, 1), "Where is the station?", "clipped"),
        (clip(0.4), "Where is the nearest railway station?", "too fast"),
        (clip(9.0), "Where is the station?", "too slow"),
    ],
)
def test_each_fault_of_a_clip_is_found(waveform, text, rule):
    assert rule in faults(measure(waveform), text, ClipRules())


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.3, "42"), (0.4, "No."), (3.5, "北京是中国的首都吗"), (1.2, "Hi.")]
)
def test_numbers_short_texts_and_other_scripts_are_given_their_time(seconds, text):
    assert faults(measure(clip(seconds)), text, ClipRules()) == {}


def test_digits_count_as_words():
    assert spoken_letters("in 2007!") == 2 + 4 * 5
