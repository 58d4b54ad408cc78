"""Each fault that spoils training is found in a data set that has it, and none in a clean one."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from data_tools.check.check import Check, CheckConfig, check_manifest
from data_tools.check.findings import RULES
from data_tools.check.report import as_json, write_report
from data_tools.check.text import other_language, unspeakable
from data_tools.cli import app
from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Manifest, Record, write_manifest
from omni.audio import save_wav

SECONDS = 1.5
FRENCH = "Quelle est la capitale de la France et comment est-ce que je vais dans ce pays?"


@pytest.fixture
def clean(tmp_path) -> Manifest:
    """Twelve spoken dialogues without fault."""
    records = []
    for number in range(12):
        turns = []
        for role, text in (
            ("user", f"What is the number after {'abcdefghijkl'[number]}?"),
            ("assistant", f"The answer is letter {'bcdefghijklm'[number]}."),
        ):
            path = f"{number}.{role}.wav"
            sound(tmp_path / path, seed=len(turns) + 2 * number)
            units = tuple(n % 7 for n in range(30)) if role == "assistant" else None
            turns.append(RecordTurn(role=role, text=text, speech=path, units=units, voice=role))
        split = "test" if number > 9 else "train"
        records.append(Record(id=f"d{number}", turns=tuple(turns), split=split))
    return Manifest(records=records, root=tmp_path)


def sound(path: Path, *, seconds: float = SECONDS, level: float = 0.3, seed: int = 0) -> None:
    tone = np.sin(np.arange(round(seconds * 16_000)) * (0.1 + seed / 100))
    save_wav(path, np.clip(level * tone, -1, 1).astype(np.float32))


def changed(manifest: Manifest, turn: int = 0, record: int = 3, **changes: object) -> Manifest:
    """With one turn of one record changed."""
    records = list(manifest.records)
    turns = list(records[record].turns)
    turns[turn] = replace(turns[turn], **changes)  # type: ignore[arg-type]
    records[record] = replace(records[record], turns=tuple(turns))
    return Manifest(records=records, root=manifest.root)


def broken(check: Check) -> dict[str, list[tuple[str, int | None]]]:
    return {r.rule: [(f.record, f.turn) for f in r.worst] for r in check.results if r.worst}


def test_nothing_is_wrong_with_a_clean_set(clean):
    check = check_manifest(clean)
    assert broken(check) == {} and check.fit
    assert check.splits == {"train": 10, "test": 2}
    assert check.hours["train"]["user"] == pytest.approx(10 * SECONDS / 3600)
    assert check.distributions["answer: merged units per second"] == pytest.approx([20.0] * 12)


TURNS = {
    "no text": (0, {"text": "  "}),
    "no recording": (0, {"speech": None}),
    "missing file": (0, {"speech": "gone.wav"}),
    "no units": (1, {"units": None}),
    "foreign units": (1, {"units": tuple(range(80))}),
    "unit rate": (1, {"units": (1, 2)}),
    "unspeakable": (1, {"text": "See **https://example.org** for it all."}),
    "too fast": (0, {"text": "many words " * 9}),
    "language": (
        1, {"text": "El gato está en la casa y no es de la señora que vive con el perro."}
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", list(TURNS))
def test_a_fault_of_a_turn_is_found_where_it_is(clean, rule):
    turn, changes = TURNS[rule]
    found = broken(check_manifest(changed(clean, turn, **changes)))
    assert rule in found
    assert {record for record, _ in found[rule]} == {"d3"}


SOUNDS = {
    "empty": {"seconds": 0.1},
    "silent": {"level": 0.001},
    "clipped": {"level": 3.0},
    "too slow": {"seconds": 12.0},
    "too long": {"seconds": 31.0},
}


@pytest.mark.parametrize("rule", list(SOUNDS))
def test_a_fault_of_a_recording_is_found_where_it_is(clean, rule):
    sound(clean.root / "3.user.wav", **SOUNDS[rule])
    assert ("d3", 1) in broken(check_manifest(clean))[rule]


def test_a_recording_that_cannot_be_read_is_an_error(clean):
    (clean.root / "3.user.wav").write_bytes(b"RIFF, but no more")
    check = check_manifest(clean)
    assert broken(check)["unreadable"] == [("d3", 1)] and not check.fit


def test_a_clip_far_from_the_pace_of_its_voice_is_noted(clean):
    sound(clean.root / "3.user.wav", seconds=SECONDS * 3.2)
    check = check_manifest(clean)
    assert broken(check) == {"pace": [("d3", 1)]}
    assert check.fit  # a note


def test_units_without_a_ctc_path_are_found_at_the_given_upsample(clean):
    assert "infeasible" not in broken(check_manifest(clean, CheckConfig(upsample=5)))
    # six words and marks, and the end token, give seven steps each: 28
    assert len(broken(check_manifest(clean, CheckConfig(upsample=4)))["infeasible"]) == 12
    by_characters = check_manifest(clean, CheckConfig(upsample=4), count_tokens=len)
    assert broken(by_characters) == {}


def test_a_dialogue_without_an_answer_is_an_error(clean):
    records = [replace(clean.records[0], turns=clean.records[0].turns[:1]), *clean.records[1:]]
    check = check_manifest(Manifest(records=records, root=clean.root))
    assert broken(check) == {"no answer": [("d0", None)]} and not check.fit


def test_a_question_of_training_in_another_split_is_leakage_however_it_is_written(clean):
    question = clean.records[0].turns[0].text
    check = check_manifest(changed(clean, record=11, text=question.upper().replace("?", " ?!")))
    assert broken(check)["leakage"] == [("d11", None)] and not check.fit


def test_a_question_that_opens_a_longer_dialogue_of_training_is_leakage(clean):
    held_out = clean.records[11]
    more = RecordTurn(role="user", text="And then?"), RecordTurn(role="assistant", text="Nothing.")
    longer = replace(clean.records[0], id="longer", turns=(*held_out.turns, *more))
    check = check_manifest(Manifest(records=[*clean.records, longer], root=clean.root))
    assert ("d11", None) in broken(check)["leakage"] and not check.fit


def test_a_recording_of_training_in_another_split_is_leakage(clean):
    assert "leakage" in broken(check_manifest(changed(clean, record=11, speech="0.user.wav")))


def test_equal_dialogues_are_noted_unless_another_voice_speaks(clean):
    twin = replace(clean.records[0], id="twin")
    check = check_manifest(Manifest(records=[*clean.records, twin], root=clean.root))
    assert broken(check) == {"duplicate": [("twin", None)]} and check.fit
    other = replace(twin, turns=(replace(twin.turns[0], voice="other"), twin.turns[1]))
    assert broken(check_manifest(Manifest(records=[*clean.records, other], root=clean.root))) == {}


def test_limits_are_tolerated_in_a_few_records_and_errors_in_none(clean):
    sound(clean.root / "3.user.wav", level=3.0)
    assert not check_manifest(clean, CheckConfig(tolerated=0.05)).fit  # none of twelve
    assert check_manifest(clean, CheckConfig(tolerated=0.1)).fit  # one of twelve
    missing = changed(clean, speech="gone.wav")
    assert not check_manifest(missing, CheckConfig(tolerated=1.0)).fit


def test_a_sample_of_the_recordings_may_be_listened_to(clean):
    check = check_manifest(clean, CheckConfig(sample=5))
    assert len(check.clips) == 5 and check.fit


def test_texts_alone_can_be_checked(clean):
    records = [
        replace(r, turns=tuple(RecordTurn(role=t.role, text=t.text) for t in r.turns))
        for r in clean.records
    ]
    assert check_manifest(Manifest(records=records, root=clean.root)).fit


def test_a_set_without_records_is_not_fit(tmp_path):
    assert not check_manifest(Manifest(records=[], root=tmp_path)).fit


@pytest.mark.parametrize(
    "text",
    ["It costs $5, or 20% (less).", "Zoë's naïve café — “well”…", "¿Qué es?", "北京在哪里。"],
)
def test_what_can_be_said_passes(text):
    assert unspeakable(text) == []


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("write to a@b.org", "an address"),
        ("- milk\n- eggs", "a list or heading"),
        ("use `print(x)` here", "code"),
        ("great 😀", "the signs 😀"),
        ("a | b", "the signs |"),
        ("...", "no words"),
    ],
)
def test_what_no_voice_can_say_is_named(text, trouble):
    assert trouble in unspeakable(text)


@pytest.mark.parametrize(
    ("text", "language", "found"),
    [
        ("What is the capital of France and how do I get there from it?", "en", None),
        (FRENCH, "fr", None),
        (FRENCH, "en", "'fr'"),
        ("Где находится столица?", "en", "cyrillic script"),
        ("Где находится столица?", "ru", None),
        ("Was?", "en", None),
    ],
)  # fmt: skip
def test_the_language_of_a_text_is_told_when_it_is_clear(text, language, found):
    assert other_language(text, language) == found


class Outline(HTMLParser):
    """Counts elements, and sees that what is opened is closed and that nothing is fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag != "meta":
            self.open.append(tag)
        for name, value in attributes:
            assert name not in ("src", "href") or (value or "").startswith("data:")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_all_that_it_shows(clean, tmp_path):
    faulty = changed(clean, 1, text="A < b & <script>alert(1)</script> is code.")
    check = check_manifest(faulty)
    write_report(check, tmp_path / "report")
    page = (tmp_path / "report/report.html").read_text()
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert "script" not in outline.count
    assert outline.count["figure"] == len(check.distributions)
    assert outline.count["audio"] >= 12 and page.count("data:audio/mpeg") == outline.count["audio"]
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report == json.loads(json.dumps(as_json(check)))
    assert set(report["rules"]) == set(RULES)
    assert report["rules"]["unspeakable"]["findings"][0]["record"] == "d3"


def test_the_exit_code_says_whether_it_is_fit_to_train_on(clean, tmp_path):
    manifest = tmp_path / "records.jsonl"
    write_manifest(manifest, clean.records)
    run = CliRunner().invoke
    done = run(app, ["check", str(manifest), "-o", str(tmp_path / "r")])
    assert done.exit_code == 0 and "fit to train on" in done.output
    assert (tmp_path / "r/report.html").is_file()
    (tmp_path / "3.user.wav").unlink()
    done = run(app, ["check", str(manifest)])
    assert done.exit_code == 1 and "not fit to train on (missing file)" in done.output
    assert run(app, ["check", str(tmp_path / "none.jsonl")]).exit_code == 2


def test_a_sound_needs_no_words_and_a_question_meant_to_be_written_no_recording(clean) -> None:
    voice = "sound-noise:seed=1"
    assert "no text" in broken(check_manifest(changed(clean, text="")))
    assert broken(check_manifest(changed(clean, text="", voice=voice))) == {}
    written = changed(clean, speech=None)
    assert "no recording" in broken(check_manifest(written))
    written.records[3] = replace(written.records[3], provenance={"written_turns": "1"})
    assert broken(check_manifest(written)) == {}
    written.records[4] = replace(written.records[4], provenance={"written_turns": "1"})
    assert broken(check_manifest(changed(written, turn=1, record=4, speech=None)))


def test_two_sounds_without_words_are_not_the_same_question(clean) -> None:
    sounds = changed(clean, record=3, text="", voice="sound-noise:seed=1")
    sounds = changed(sounds, record=11, text="", voice="sound-noise:seed=2")
    assert broken(check_manifest(sounds)) == {}
