"""A folder of recordings and transcripts becomes records, whoever wrote the files, and where."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_tools.manifest.recordings import read_folder
from omni.audio import load_audio


def test_a_folder_of_recordings_is_joined_by_name_not_by_order(tmp_path: Path) -> None:
    for name in ("b.wav", "b.answer.wav", "a.wav", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "b.txt").write_text("Second\n question?\n")
    (tmp_path / "b.answer.txt").write_text("Yes.")
    (tmp_path / "a.txt").write_text("First?")
    first, second = read_folder(tmp_path)
    assert (first.id, second.id) == ("a", "b")
    assert [turn.text for turn in first.turns] == ["First?"]
    assert [turn.text for turn in second.turns] == ["Second question?", "Yes."]
    assert [turn.speech for turn in second.turns] == [
        str((tmp_path / name).resolve()) for name in ("b.wav", "b.answer.wav")
    ]


def test_an_answer_may_come_without_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_text("First?")
    (tmp_path / "a.answer.txt").write_text("Yes.")
    answer = read_folder(tmp_path)[0].turns[1]
    assert (answer.role, answer.speech) == ("assistant", None)


def test_every_file_without_its_partner_is_named(tmp_path: Path) -> None:
    for name in ("a.wav", "b.txt", "c.wav", "c.txt", "c.answer.wav", "d.answer.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ValueError) as raised:
        read_folder(tmp_path)
    for orphan in (
        "a.wav needs a.txt",
        "b.txt needs b.wav",
        "c.answer.wav needs c.answer.txt",
        "d.answer.txt needs d.txt",
    ):
        assert orphan in str(raised.value)


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add some"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="not a folder"):
        read_folder(tmp_path / "missing")


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".ogg", ".WAV"])
def test_recordings_are_of_any_format_that_is_read_in_training(tmp_path: Path, suffix: str) -> None:
    sound = np.zeros((8000, 2))
    for name in ("two words", "two words.answer"):
        soundfile.write(tmp_path / f"{name}{suffix}", sound, 8000, format=suffix[1:].upper())
        (tmp_path / f"{name}.txt").write_text(name)
    (record,) = read_folder(tmp_path)
    assert record.id == "two words"
    assert [len(load_audio(turn.speech or "")) for turn in record.turns] == [16_000, 16_000]


def test_one_name_has_one_recording(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "a.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"a\.flac and a\.wav are .*twice; remove one"):
        read_folder(tmp_path)


def test_what_an_editor_of_windows_adds_to_a_transcript_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "a.txt").write_bytes("\ufeffWo bist du?\r\n".encode())
    assert read_folder(tmp_path)[0].turns[0].text == "Wo bist du?"
    (tmp_path / "a.txt").write_bytes("Schön.".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt: isn't in UTF-8; convert it"):
        read_folder(tmp_path)
