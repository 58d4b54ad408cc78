"""What a researcher has on disk is read as it lies there: tables, lists, folders of `datasets`."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Audio, Dataset, DatasetDict

from tests.foreign_rows import ANSWER, QUESTION, read, texts, write


def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path) -> None:
    table = '\ufeffquestion,answer\r\n"Well, how are you?","""Fine"", she said.\nAnd you?"\r\n'
    (tmp_path / "x.csv").write_bytes(table.encode())
    (record,) = read(str(tmp_path / "x.csv"))
    assert texts(record) == ["Well, how are you?", '"Fine", she said.\nAnd you?']


def test_a_quotation_mark_in_a_tsv_is_one_as_in_common_voice(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text('path\tsentence\na b.mp3\t"Hm\nb.mp3\tShe said "hi".\n')
    records = read(str(tmp_path / "x.tsv"))
    assert [texts(record) for record in records] == [['"Hm'], ['She said "hi".']]
    assert records[0].turns[0].speech == str(tmp_path / "a b.mp3")


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_an_audio_folder_is_read_by_its_list(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".csv":
        path.write_text(f"file_name,transcription\ntrain/q.flac,{QUESTION}\n")
    else:
        write(path, {"file_name": "train/q.flac", "transcription": QUESTION})
    (record,) = read(str(tmp_path))
    assert texts(record) == [QUESTION]
    assert record.turns[0].speech == str(tmp_path / "train" / "q.flac")


@pytest.mark.parametrize("prefix", ["", "hub:"])
@pytest.mark.parametrize("split", [True, False])
def test_a_saved_data_set_is_read_with_its_recordings(
    tmp_path: Path, prefix: str, split: bool
) -> None:
    rows: list[dict[str, Any]] = [{"audio": {"bytes": b"RIFF", "path": "q.wav"}, "text": QUESTION}]
    saved = Dataset.from_list(rows).cast_column("audio", Audio(decode=False))
    (DatasetDict({"train": saved}) if split else saved).save_to_disk(tmp_path / "set")
    (record,) = read(f"{prefix}{tmp_path / 'set'}", audio_folder=tmp_path / "audio")
    assert texts(record) == [QUESTION]
    assert Path(record.turns[0].speech or "").read_bytes() == b"RIFF"


def test_what_datasets_can_not_read_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.exceptions import DatasetGenerationError

    def fails(*_: Any, **__: Any) -> None:
        raise DatasetGenerationError("An error occurred") from ImportError("install 'torchcodec'")

    monkeypatch.setattr("datasets.load_dataset", fails)
    with pytest.raises(ValueError, match=r"hub:a/b: can't be read \(install 'torchcodec'\)"):
        read("hub:a/b")


def test_a_pair_is_known_beside_columns_of_other_names(tmp_path: Path) -> None:
    source = write(tmp_path / "x.jsonl", {"path": "x", "question": QUESTION, "answer": ANSWER})
    assert texts(read(source)[0]) == [QUESTION, ANSWER]
