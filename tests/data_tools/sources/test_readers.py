"""Foreign data sets become records, each format known by its fields, wherever the set lies."""

from pathlib import Path
from typing import Any

import pytest

from data_tools.manifest import RecordTurn
from data_tools.manifest.record import Record, read_manifest, write_manifest
from tests.foreign_rows import ANSWER, QUESTION, SHARED, read, texts, write

CHAT = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize(
    "row",
    [
        {"id": 7, "instruction": QUESTION, "input": "", "output": ANSWER},
        {"id": "7", "data": [QUESTION, ANSWER]},
        {"id": "7", "conversations": SHARED},
        {"id": "7", "conversations": [{"role": t["role"], "value": t["content"]} for t in CHAT]},
        {"prompt_id": "7", "prompt": QUESTION, "messages": CHAT},
        {"id": "7", "messages": [{"role": "system", "content": "Be brief."}, *CHAT]},
        {"id": "7", "question": QUESTION, "answer": ANSWER},
        {"id": "7", "prompt": QUESTION, "completion": ANSWER},
        {"id": "7", "conversation": [{"from": f["from"], "text": f["value"]} for f in SHARED]},
        {"id": "7", "turns": [{"role": t["role"], "text": t["content"]} for t in CHAT]},
    ],
    ids=lambda row: "+".join(row),
)
def test_every_format_is_known_by_its_fields(
    tmp_path: Path, row: dict[str, Any], suffix: str
) -> None:
    source = write(tmp_path / f"set{suffix}", row)
    turns = (RecordTurn(role="user", text=QUESTION), RecordTurn(role="assistant", text=ANSWER))
    provenance = {"source": f"set{suffix}", "licence": "CC0"}
    expected = Record(id="7", turns=turns, language="de", split="dev", provenance=provenance)
    assert read(source, language="de", split="dev", licence="CC0") == [expected]


def test_the_input_of_alpaca_belongs_to_the_question(tmp_path: Path) -> None:
    row = {"instruction": "Add these. ", "input": "2 and 3", "output": "5"}
    assert texts(read(write(tmp_path / "a.json", row))[0]) == ["Add these.\n\n2 and 3", "5"]


def test_rows_without_an_id_are_named_by_content_not_by_number(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {n}.", "output": str(n)} for n in range(3)]
    forwards = read(write(tmp_path / "a.jsonl", *rows))
    backwards = read(write(tmp_path / "a.jsonl", *rows[::-1]))
    assert {r.id: texts(r) for r in forwards} == {r.id: texts(r) for r in backwards}
    assert len({r.id for r in forwards}) == 3 and forwards[0].id.startswith("alpaca-")


def test_an_empty_last_answer_is_a_question_still_to_be_answered(tmp_path: Path) -> None:
    row = {"instruction": "Say it.", "input": "", "output": " "}
    assert texts(read(write(tmp_path / "a.jsonl", row))[0]) == ["Say it."]


def test_the_authors_dialogues_come_with_speech_and_merged_units(tmp_path: Path) -> None:
    def row(units: Any) -> dict[str, Any]:
        return {
            "id": f"d-{type(units).__name__}",
            "conversation": [
                {"from": "human", "text": QUESTION, "speech": "wav/q.wav"},
                {"from": "gpt", "text": ANSWER, "speech": "wav/a.wav", "units": units},
            ],
        }

    source = write(tmp_path / "d.json", row("12 45 45 7"), row([12, 45, 45, 7]))
    for record in read(source):
        asked, answered = record.turns
        assert asked.speech == str(tmp_path / "wav/q.wav")
        assert (answered.speech, answered.units) == (str(tmp_path / "wav/a.wav"), (12, 45, 7))


def test_the_authors_questions_have_a_recording_and_no_words(tmp_path: Path) -> None:
    asked = {"from": "human", "value": "<speech>\nPlease directly answer the questions."}
    row = {"id": "q", "speech": "q.wav", "conversations": [asked, SHARED[1]]}
    (record,) = read(write(tmp_path / "q.json", row))
    assert record.turns[0] == RecordTurn(role="user", text="", speech=str(tmp_path / "q.wav"))
    assert record.turns[1] == RecordTurn(role="assistant", text=ANSWER)


def test_a_dialogue_is_cut_to_its_first_questions_with_their_answers(tmp_path: Path) -> None:
    source = write(tmp_path / "u.jsonl", {"id": "u", "data": ["a", "b", "c", "d", "e", "f"]})
    assert texts(read(source, max_turns=2)[0]) == ["a", "b", "c", "d"]
    assert len(read(source, max_turns=9)[0].turns) == 6


def test_a_folder_of_recordings_is_a_source_too(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_text(QUESTION)
    (record,) = read(str(tmp_path), language="de")
    assert (record.id, texts(record), record.language) == ("a", [QUESTION], "de")


def test_our_own_manifest_with_audio_inside_is_read_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "q.wav").write_bytes(b"RIFF question")
    own = Record(
        id="a", turns=(RecordTurn(role="user", text="Hm?", speech="q.wav"),), language="fr"
    )
    write_manifest(tmp_path / "own.parquet", [own], embed_audio=True)
    audio = tmp_path / "elsewhere"
    (record,) = read(str(tmp_path / "own.parquet"), audio_folder=audio, language="de")
    assert record.language == "fr"
    speech = Path(record.turns[0].speech or "")
    assert speech.parent == audio and speech.read_bytes() == b"RIFF question"


def test_a_hub_data_set_is_read_by_its_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "set").mkdir()
    rows = [{"id": str(n), "question": f"{n}?", "response": f"{n}."} for n in range(4)]
    write(tmp_path / "set" / "train.jsonl", *rows)
    source = f"hub:{tmp_path / 'set'}"  # `datasets` takes a folder for a hub's data set
    assert [texts(record) for record in read(source)] == [[f"{n}?", f"{n}."] for n in range(4)]
    assert [record.id for record in read(source, limit=2)] == ["0", "1"]
    with pytest.raises(ValueError, match=r"hub:.*check name, config, split"):
        read(source, hub_split="missing")


def test_a_hub_that_can_not_be_reached_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"hub:nobody/nothing: .*network.*import those"):
        read("hub:nobody/nothing")


def test_recordings_with_a_transcript_become_questions(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    sound = {"bytes": b"RIFF", "path": "x/1.wav"}
    table = pyarrow.Table.from_pylist([{"id": "a", "audio": sound, "sentence": QUESTION}])
    write_table(table, tmp_path / "asr.parquet")
    (record,) = read(str(tmp_path / "asr.parquet"), audio_folder=tmp_path / "audio")
    assert texts(record) == [QUESTION]
    assert Path(record.turns[0].speech or "").read_bytes() == b"RIFF"


def test_recordings_can_be_asked_to_be_said_back(tmp_path: Path) -> None:
    source = write(tmp_path / "said.jsonl", {"file": "a.wav", "text": QUESTION, "source": "x"})
    (record,) = read(source, repeat=True, split="human")
    assert texts(record) == ["Repeat what I say.", "Go ahead.", QUESTION, QUESTION]
    assert [turn.speech for turn in record.turns] == [None, None, str(tmp_path / "a.wav"), None]
    assert record.split == "human" and record.provenance["kind"] == "repeat"


def test_what_has_no_transcript_can_not_be_asked_to_be_said_back(tmp_path: Path) -> None:
    source = write(tmp_path / "said.jsonl", {"id": "a", "audio": "a.wav", "text": " "})
    with pytest.raises(ValueError, match="a: no words to be said back; add its transcript"):
        read(source, repeat=True)


def test_import_writes_a_manifest_that_knows_its_recordings(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from data_tools.cli import app

    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["import", *map(str, arguments)])
        return result.exit_code, result.output

    asked = {"from": "human", "text": QUESTION, "speech": "q.wav"}
    source = write(tmp_path / "d.json", {"id": "a", "conversation": [asked]}, {"id": "b"})
    (tmp_path / "q.wav").write_bytes(b"RIFF")
    code, output = run(source, "-o", tmp_path / "out.jsonl")
    assert code == 2 and output.startswith("error: ") and "d.json:3" in output
    code, output = run(source, "-o", tmp_path / "out.jsonl", "--skip-bad")
    assert code == 0 and "1 records, 1 bad rows left out" in output
    manifest = read_manifest(tmp_path / "out.jsonl")
    assert manifest.records[0].turns[0].speech == "q.wav"
    packed = tmp_path / "packed" / "out.parquet"
    assert run(source, "-o", packed, "--skip-bad", "--embed-audio")[0] == 0
    (tmp_path / "q.wav").unlink()
    manifest = read_manifest(packed)
    assert manifest.audio_path(manifest.records[0].turns[0]).read_bytes() == b"RIFF"


def test_a_manifest_is_packed_with_its_audio_and_unpacked_elsewhere(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from data_tools.cli import app

    (tmp_path / "q.wav").write_bytes(b"RIFF")
    record = Record(id="a", turns=(RecordTurn(role="user", text=QUESTION, speech="q.wav"),))
    write_manifest(tmp_path / "s.jsonl", [record])
    packed, unpacked = tmp_path / "away" / "p.parquet", tmp_path / "away" / "s.jsonl"
    for arguments in (
        [tmp_path / "s.jsonl", "-o", packed, "--embed-audio"],
        [packed, "-o", unpacked],
    ):
        result = CliRunner().invoke(app, ["convert", *map(str, arguments)])
        assert result.exit_code == 0, result.output
    manifest = read_manifest(unpacked)
    assert manifest.audio_path(manifest.records[0].turns[0]).read_bytes() == b"RIFF"
