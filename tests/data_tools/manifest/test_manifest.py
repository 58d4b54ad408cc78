"""The record and its files: what is written is read back, and what is wrong is named."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from data_tools.manifest.record import (
    Record,
    RecordTurn,
    read_manifest,
    write_manifest,
)

DIALOGUE = Record(
    id="capitals/france/2",
    turns=(
        RecordTurn(
            role="user", text="Où est Paris?", speech="audio/q.wav", voice="flite-awb:f0=95"
        ),
        RecordTurn(role="assistant", text="In France.", speech="audio/a.wav", units=(12, 45, 7)),
        RecordTurn(role="user", text="And Rome?"),
        RecordTurn(role="assistant", text="In Italy."),
    ),
    split="test_unseen",
    provenance={"skill": "capitals", "licence": "CC0"},
)
QUESTION_ONLY = Record(id="q", turns=(RecordTurn(role="user", text="Hello."),), language="de")


def write_lines(path: Path, *rows: dict | str) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return path


def user_turn(**fields: object) -> dict:
    return {"role": "user", "text": "Hello."} | fields


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_records_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"records{suffix}"
    write_manifest(path, [DIALOGUE, QUESTION_ONLY])
    manifest = read_manifest(path)
    assert manifest.records == [DIALOGUE, QUESTION_ONLY]
    assert manifest.audio_path(DIALOGUE.turns[0]) == tmp_path / "audio/q.wav"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_manifest_without_records_is_a_manifest(tmp_path: Path, suffix: str) -> None:
    write_manifest(tmp_path / f"none{suffix}", [])
    assert read_manifest(tmp_path / f"none{suffix}").records == []


def test_a_manifest_of_windows_is_read_and_another_encoding_named(
    tmp_path: Path,
) -> None:
    path = write_lines(tmp_path / "r.jsonl", {"id": "é", "turns": [user_turn()]})
    path.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [record.id for record in read_manifest(path).records] == ["é"]
    path.write_bytes('{"id": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"r\.jsonl: isn't in UTF-8; convert it"):
        read_manifest(path)


def test_null_fields_are_left_out_of_the_lines(tmp_path: Path) -> None:
    write_manifest(tmp_path / "r.jsonl", [QUESTION_ONLY])
    row = json.loads((tmp_path / "r.jsonl").read_text())
    assert row["turns"] == [user_turn()]


def test_null_fields_and_missing_fields_mean_the_same(tmp_path: Path) -> None:
    nulls = user_turn(speech=None, units=None, voice=None)
    path = write_lines(tmp_path / "r.jsonl", {"id": "a", "language": None, "turns": [nulls]}, "")
    assert read_manifest(path).records == [
        Record(id="a", turns=(RecordTurn(role="user", text="Hello."),))
    ]


def test_a_writer_that_fails_leaves_the_old_manifest_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    write_manifest(path, [QUESTION_ONLY])
    broken = Record(id="b", turns=(), provenance={"no json": object()})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        write_manifest(path, [DIALOGUE, broken])
    assert read_manifest(path).records == [QUESTION_ONLY]


def test_repeated_units_are_merged_on_reading(tmp_path: Path) -> None:
    turns = [user_turn(), {"role": "assistant", "text": "Hi.", "units": [5, 5, 6, 6, 6, 5]}]
    path = write_lines(tmp_path / "r.jsonl", {"id": "a", "turns": turns})
    units = read_manifest(path).records[0].turns[1].units
    assert units == (5, 6, 5)
    assert {type(unit) for unit in units or ()} == {int}  # numpy integers would not go into JSON


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", ["not JSON"]),
        ("[1]", ["object"]),
        ({"turns": [user_turn()]}, ["'id'"]),
        ({"id": "", "turns": [user_turn()]}, ["empty"]),
        ({"id": 3, "turns": [user_turn()]}, ["id 3", "text"]),
        ({"id": "b", "turns": []}, ["turns", "at least one"]),
        ({"id": "b", "turns": "Hello"}, ["turns", "list"]),
        ({"id": "b", "turns": ["Hello"]}, ["turn 'Hello'", "object"]),
        ({"id": "b", "turns": [{"role": "user"}]}, ["'text'"]),
        ({"id": "b", "turns": [user_turn(role="bot")]}, ["'bot'", "assistant"]),
        ({"id": "b", "turns": [user_turn(role="assistant")]}, ["turn 1", "start with 'user'"]),
        ({"id": "b", "turns": [user_turn(), user_turn()]}, ["turn 2", "alternate"]),
        ({"id": "b", "turns": [user_turn(units=[1, -2])]}, ["units", "-2"]),
        ({"id": "b", "turns": [user_turn(units="1 2")]}, ["units", "integers"]),
        ({"id": "b", "turns": [user_turn()], "audio": "x"}, ["'audio'", "known are"]),
        ({"id": "b", "turns": [user_turn()], "provenance": {"year": 3}}, ["provenance"]),
        ({"id": "a", "turns": [user_turn()]}, ["'a'", "r.jsonl:1", "unique"]),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_the_rule(
    tmp_path: Path, bad: dict | str, words: list[str]
) -> None:
    path = write_lines(tmp_path / "r.jsonl", {"id": "a", "turns": [user_turn()]}, bad)
    with pytest.raises(ValueError) as raised:
        read_manifest(path)
    assert all(word in str(raised.value) for word in ["r.jsonl:2", *words]), raised.value


def test_a_bad_row_of_a_parquet_file_is_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write_manifest(path, [DIALOGUE, DIALOGUE])
    with pytest.raises(ValueError, match=r"r\.parquet:2: id 'capitals/france/2'"):
        read_manifest(path)


def test_a_file_that_is_not_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"r\.parquet: not a parquet file"):
        read_manifest(tmp_path / "r.parquet")


def test_other_suffixes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.jsonl or \.parquet"):
        write_manifest(tmp_path / "r.csv", [DIALOGUE])
    assert not list(tmp_path.iterdir())


def test_a_turn_without_speech_has_no_audio_path(tmp_path: Path) -> None:
    write_manifest(tmp_path / "r.jsonl", [QUESTION_ONLY])
    manifest = read_manifest(tmp_path / "r.jsonl")
    with pytest.raises(ValueError, match="no speech"):
        manifest.audio_path(manifest.records[0].turns[0])


def spoken_by(*files: str) -> Record:
    turns = [
        RecordTurn(role="assistant" if number % 2 else "user", text=file, speech=file)
        for number, file in enumerate(files)
    ]
    return Record(id="-".join(files), turns=tuple(turns), provenance={"source": "here"})


def test_a_parquet_with_audio_inside_can_be_moved_away_from_its_recordings(tmp_path: Path) -> None:
    (tmp_path / "q.wav").write_bytes(b"RIFF question")
    (tmp_path / "a.flac").write_bytes(b"fLaC answer")
    away = tmp_path / "away" / "set.parquet"
    records = [spoken_by("q.wav", "a.flac"), spoken_by("q.wav"), QUESTION_ONLY]
    write_manifest(away, records, embed_audio=True, audio_root=tmp_path)
    (tmp_path / "q.wav").unlink()
    manifest = read_manifest(away)
    question, answer = manifest.records[0].turns
    assert manifest.audio_path(question).read_bytes() == b"RIFF question"
    assert manifest.audio_path(answer).read_bytes() == b"fLaC answer"
    assert Path(answer.speech or "").parent == Path("set.audio") and answer.text == "a.flac"
    assert manifest.records[1].turns[0].speech == question.speech  # one file for equal audio
    assert manifest.records[2] == QUESTION_ONLY
    assert len(list((away.parent / "set.audio").iterdir())) == 2
    assert read_manifest(away) == manifest


def test_datasets_knows_the_audio_inside_without_being_told(tmp_path: Path) -> None:
    from datasets import Audio, Dataset

    (tmp_path / "q.wav").write_bytes(b"RIFF question")
    write_manifest(tmp_path / "set.parquet", [spoken_by("q.wav")], embed_audio=True)
    found = Dataset.from_parquet(str(tmp_path / "set.parquet"), cache_dir=str(tmp_path / "cache"))
    assert found.features["turns"].feature["speech"] == Audio(decode=False)
    assert found[0]["turns"][0]["speech"] == {"bytes": b"RIFF question", "path": "q.wav"}


def test_audio_is_laid_out_where_the_reader_wants_it(tmp_path: Path) -> None:
    (tmp_path / "q.wav").write_bytes(b"RIFF question")
    path = tmp_path / "data" / "set.parquet"
    write_manifest(path, [spoken_by("q.wav")], embed_audio=True, audio_root=tmp_path)
    manifest = read_manifest(path, audio_folder=tmp_path / "elsewhere")
    speech = manifest.audio_path(manifest.records[0].turns[0])
    assert speech.parent == tmp_path / "elsewhere" and speech.read_bytes() == b"RIFF question"


def test_audio_that_is_missing_or_has_no_place_in_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"record 'q.wav': .*q\.wav is missing"):
        write_manifest(tmp_path / "set.parquet", [spoken_by("q.wav")], embed_audio=True)
    assert not (tmp_path / "set.parquet").exists()
    with pytest.raises(ValueError, match=r"only \.parquet"):
        write_manifest(tmp_path / "set.jsonl", [QUESTION_ONLY], embed_audio=True)


def test_several_processes_may_read_a_parquet_with_audio_inside_at_once(tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"{number}.wav").write_bytes(bytes([number]) * 20_000)
    rows = [spoken_by(f"{number}.wav") for number in range(60)]
    path = tmp_path / "away" / "set.parquet"
    path.parent.mkdir()
    write_manifest(path, rows, embed_audio=True, audio_root=tmp_path)
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        whole = list(pool.map(read_manifest, [path] * 4))
    laid_out = sorted(file.name for file in (path.parent / "set.audio").iterdir())
    assert len(laid_out) == 60 and all(name.endswith(".wav") for name in laid_out)
    assert whole[1:] == whole[:-1]
