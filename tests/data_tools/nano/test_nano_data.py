"""The nano's data set: who asks what, what lies in the folder, going on, and the command."""

import hashlib
import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.manifest.record import Manifest, read_manifest
from data_tools.nano.asks import KNOWN, WIDE, nano_asks
from data_tools.nano.data import Summary, build_nano
from data_tools.nano.plan import plan
from data_tools.speech.speak import SAMPLE_RATE
from data_tools.speech.voices import ANSWER_VOICE, Voice
from data_tools.talk import HELD_OUT, REFUSE, Ask, asking_voices, engines

ENTRIES = ("records.jsonl", "text.jsonl", "reading.jsonl", "state.json", "audio")


def ask(number: int, split: str, *, turns: int = 1, kind: str = KNOWN) -> Ask:
    return Ask(
        kind=kind,
        skill="sums",
        template=f"sums/{number}",
        split=split,
        turns=tuple(
            (f"{split} {kind} question {number} part {part}?", f"Answer {number % 3}.")
            for part in range(turns)
        ),
        source="test",
        name=f"sums-{kind}-{split}-{number}",
    )


def refused(number: int, split: str, *, heard: bool = False) -> Ask:
    """A sound, or with `heard` a question that nobody could answer."""
    return Ask(
        kind=REFUSE,
        skill="now" if heard else "sound",
        template="",
        split=split,
        turns=((f"What is now {split} {number}?", "No.") if heard else ("", "What?"),),
        source="test",
        voice=None if heard else Voice("sound", "noise", (("seed", str(number)),)),
    )


ASKS = {
    KNOWN: [
        *(ask(number, "train") for number in range(4)),
        ask(4, "train", turns=2),
        ask(5, "validation"),
        ask(6, "test", turns=2),
        ask(7, "test"),
    ],
    WIDE: [
        *(ask(number, "train", kind=WIDE) for number in range(8)),
        ask(8, "validation", kind=WIDE),
        ask(9, "test", kind=WIDE),
    ],
    REFUSE: [
        refused(0, "train"),
        refused(1, "train", heard=True),
        refused(2, "validation"),
        refused(3, "test"),
        refused(4, "test", heard=True),
    ],
}
HELD_OUT_TESTS = {
    f"test_{kind}_{name}": voice for kind in (KNOWN, WIDE) for name, voice in HELD_OUT.items()
}


class Tones:
    """Speaks a tone that depends on text and voice, as an engine does; may fail part of the way."""

    def __init__(self, *, clips_until_failure: int = 1000, version: str = "1") -> None:
        self.left = clips_until_failure
        self.version = version
        self.closed = False

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        if self.left == 0:
            raise ValueError(f"text {text!r}: the engine fell over")
        self.left -= 1
        number = int.from_bytes(hashlib.sha256(f"{voice} {text}".encode()).digest()[:4])
        samples = np.arange(1600 + number % 1600, dtype=np.float32)
        return np.sin(samples * (0.01 + number % 997 / 1000)).astype(np.float32)

    def versions(self) -> dict[str, str]:
        return {"tones": self.version}

    def close(self) -> None:
        self.closed = True


def build(folder: Path, **options: object) -> Summary:
    settings = {"questions": 20, "workers": 2, "make_tts": Tones} | options
    return build_nano(folder, ASKS, **settings)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano") / "data"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return read_manifest(folder / "records.jsonl")


def split(manifest: Manifest, name: str) -> list:
    return [record for record in manifest.records if record.split == name]


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


@pytest.mark.parametrize("clips_until_failure", [0, 1, 7])
def test_a_set_that_fell_over_and_was_begun_again_equals_one_that_was_not(
    tmp_path: Path, folder: Path, clips_until_failure: int
) -> None:
    failing = [Tones(clips_until_failure=clips_until_failure) for _ in range(3)]
    waiting = iter(failing)
    with pytest.raises(ValueError, match="the engine fell over"):
        build(tmp_path, make_tts=lambda: next(waiting))
    assert not (tmp_path / "records.jsonl").exists()
    assert all(tts.closed for tts in failing)
    kept = len(list(tmp_path.rglob("*.wav")))
    summary = build(tmp_path)
    assert summary.made_clips == summary.clips - kept
    assert contents(tmp_path) == contents(folder)


def test_half_a_clip_left_by_a_kill_is_made_again(tmp_path: Path, folder: Path) -> None:
    build(tmp_path)
    clip = next(tmp_path.rglob("*.wav"))
    clip.with_name(f".{clip.name}.part").write_bytes(clip.read_bytes()[:100])
    clip.unlink()
    assert build(tmp_path).made_clips == 1
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("workers", [1, 5])
def test_the_number_of_workers_changes_nothing(tmp_path: Path, folder: Path, workers: int) -> None:
    build(tmp_path, workers=workers)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_chooses_other_voices(tmp_path: Path, manifest: Manifest) -> None:
    build(tmp_path, seed=1)
    others = split(read_manifest(tmp_path / "records.jsonl"), "train")
    voices = {record.id: record.turns[0].voice for record in split(manifest, "train")}
    assert any(voices.get(record.id) != record.turns[0].voice for record in others)


def test_more_questions_keep_the_voices_of_the_first_ones(
    tmp_path: Path, manifest: Manifest
) -> None:
    build(tmp_path, questions=40)
    larger = {r.id: r for r in read_manifest(tmp_path / "records.jsonl").records}
    assert all(larger[record.id] == record for record in manifest.records)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"questions": 21}, "questions=20, not 21"),
        ({"seed": 3}, "seed=0, not 3"),
        ({"make_tts": lambda: Tones(version="2")}, "engines="),
    ],
)
def test_going_on_with_other_options_is_refused_by_name(
    folder: Path, options: dict, name: str
) -> None:
    before = contents(folder)
    with pytest.raises(ValueError, match=name):
        build(folder, **options)
    assert contents(folder) == before


def test_going_on_with_other_asks_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ValueError, match="contents="):
        build_nano(folder, ASKS | {WIDE: []}, questions=20, make_tts=Tones)


@pytest.mark.parametrize(
    ("asks", "options", "rule"),
    [
        (ASKS, {"questions": 0}, "questions=0"),
        (ASKS, {"workers": 0}, "workers=0"),
        ({}, {}, "at least one"),
        ({KNOWN: [ask(0, "test")]}, {}, "'train'"),
        ({KNOWN: [ask(0, "train"), ask(0, "dev")]}, {}, "'dev'"),
        ({KNOWN: [ask(0, "train"), ask(0, "train")]}, {}, "unique"),
    ],
)
def test_impossible_wishes_are_refused_before_anything_is_written(
    tmp_path: Path, asks: dict[str, list[Ask]], options: dict, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        build_nano(tmp_path / "data", asks, make_tts=Tones, **options)
    assert not (tmp_path / "data").exists()


def test_workers_speak_side_by_side(tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=10)

    class Meeting(Tones):
        met = False

        def speak(self, text: str, voice: Voice) -> np.ndarray:
            if not self.met:
                together.wait()  # passes only if the other worker is speaking too
                self.met = True
            return super().speak(text, voice)

    build(tmp_path, make_tts=Meeting)
    assert (tmp_path / "records.jsonl").exists()


def test_the_installed_engines_speak_a_small_set(tmp_path: Path) -> None:
    few = {
        KNOWN: [*(ask(number, "train") for number in range(3)), ask(9, "test")],
        REFUSE: [refused(3, "test")],
    }
    summary = build_nano(tmp_path, few, questions=6, workers=2, make_tts=engines)
    tests = {"test_known": 1, "test_refuse": 1} | {f"test_known_{name}": 1 for name in HELD_OUT}
    assert summary.records == {"train": 6} | tests
    assert 0.5 < 3600 * summary.hours["train"] / 6 < 5.0
    assert set(json.loads((tmp_path / "state.json").read_text())["engines"]) == {
        "flite",
        "espeak",
        "festival",
        "sound",
    }


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and everything printed, as a shell shows it."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_the_command_makes_the_set_and_tells_what_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_tools.nano.data.nano_asks", lambda seed: {KNOWN: [ask(0, "train")]})
    code, output = run("nano", "-o", tmp_path, "--questions", 2, "--workers", 1)
    assert code == 0
    assert "2 records" in output and "4 clips, 4 of them new" in output
    assert len(read_manifest(tmp_path / "records.jsonl").records) == 2


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for arguments in (
        ("nano", "-o", tmp_path / "data", "--questions", 0),
        ("import", tmp_path / "missing", "-o", tmp_path / "out.jsonl"),
        ("convert", tmp_path / "missing.jsonl", "-o", tmp_path / "out.parquet"),
        ("convert", tmp_path / "missing.csv", "-o", tmp_path / "out.parquet"),
    ):
        code, output = run(*arguments)
        assert code == 2
        assert output.startswith("error: ") and output.count("\n") == 1


def test_omni_debug_shows_where_an_error_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNI_DEBUG", "1")
    with pytest.raises(ValueError, match="no such file or folder"):
        arguments = ["import", str(tmp_path / "missing"), "-o", str(tmp_path / "out.jsonl")]
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_folder_is_imported_and_converted_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_text("Wie geht es?")
    first, parquet, again = (tmp_path / name for name in ("r.jsonl", "r.parquet", "s.jsonl"))
    assert run("import", tmp_path, "-o", first, "--language", "de", "--split", "test")[0] == 0
    assert run("convert", first, "-o", parquet)[0] == 0
    assert run("convert", parquet, "-o", again)[0] == 0
    assert again.read_bytes() == first.read_bytes()
    record = read_manifest(again).records[0]
    assert (record.language, record.split, record.turns[0].text) == ("de", "test", "Wie geht es?")


def test_a_manifest_is_not_converted_away_from_its_audio(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").touch()
    (tmp_path / "elsewhere").mkdir()
    code, output = run("convert", tmp_path / "r.jsonl", "-o", tmp_path / "elsewhere" / "r.parquet")
    assert code == 2 and "write it into" in output
