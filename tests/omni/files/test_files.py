"""Writing: whole or not at all, through links, never in place of a device, tried in advance."""

import errno
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from omni.audio import load_audio, save_wav
from omni.files import check_file, check_folder, replace_file, write_text
from omni.files.errors import UserError

FULL = Path("/dev/full")  # a device on which every write fails as on a full disk


def test_what_fails_midway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replace_file(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "real" / "a.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "new"
    assert len(list(tmp_path.rglob("*"))) == 3


def test_a_device_is_written_to_and_stays_a_device() -> None:
    """Renaming would put a file in its place, where root writes."""
    write_text("/dev/null", "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(OSError) as caught:
        save_wav(FULL, np.zeros(160))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(FULL))
    assert stat.S_ISCHR(FULL.stat().st_mode)


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere" / "a.wav", tmp_path / "file" / "a.wav", tmp_path):
        with pytest.raises(OSError) as caught:
            save_wav(path, np.zeros(160))
        assert caught.value.filename == str(path)
        assert ".part" not in str(caught.value)


def test_sound_is_rounded_to_the_nearest_step(tmp_path: Path) -> None:
    steps = np.array([-2.0, -1.0, -0.6, 0.4, 0.6, 1.0, 32767.0, 99999.0])
    save_wav(tmp_path / "a.wav", steps / 32767)
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert samples.tolist() == [-2, -1, -1, 0, 1, 1, 32767, 32767]


def test_a_name_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9 au lait.wav"  # Latin-1 on a UTF-8 system
    save_wav(path, np.full(1600, 0.5))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert load_audio(path)[0] == load_audio(str(path))[0] == pytest.approx(0.5, abs=1e-4)


def test_places_are_tried_in_advance_and_left_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_file(tmp_path / "new.wav")
    check_file(tmp_path / "file")
    check_file(FULL)
    check_folder(tmp_path / "a" / "b")
    check_folder(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    for check, path, says in (
        (check_file, tmp_path, "is a folder"),
        (check_file, tmp_path / "no" / "a.wav", "does not exist"),
        (check_file, tmp_path / "file" / "a.wav", "is a file, not a folder"),
        (check_folder, tmp_path / "file", "is a file, not a folder"),
        (check_folder, tmp_path / "file" / "b" / "c", "is a file, not a folder"),
    ):
        with pytest.raises(UserError, match=says):
            check(path)


def test_a_folder_that_takes_no_files_is_refused() -> None:
    for check, path in ((check_file, "/proc/a.wav"), (check_folder, "/proc/self/a")):
        with pytest.raises(OSError) as caught:
            check(path)
        assert caught.value.filename == path
