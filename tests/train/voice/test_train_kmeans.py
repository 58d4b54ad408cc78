"""Fitting units on recordings, and labelling a corpus that may be interrupted."""

import json

import numpy as np
import pytest
import torch

import train.voice.kmeans
from omni.audio import load_audio, save_wav
from omni.files.errors import UserError
from omni.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from omni.units.config import UnitsConfig
from omni.units.extractor import UnitExtractor
from train.voice.kmeans import fit_units, label_corpus, read_frame_units

CONFIG = UnitsConfig(kind="speech_encoder", name="tiny", layer=1, smooth_frames=3)
CLUSTERS = 6


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = SpeechEncoder(
        SpeechEncoderConfig(n_mels=20, width=16, layers=2, heads=2, ffn=32)
    ).eval()
    encoder.embed_positions.weight.data.mul_(0.01)  # random positions would drown the sound
    return encoder


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Five files of tones that change every 0.1 s."""
    folder, found = tmp_path_factory.mktemp("speech"), []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        pitches = np.repeat(rng.choice([200.0, 700.0, 2500.0, 5000.0], 6 + seed), 1600)
        tone = 0.3 * np.sin(2 * np.pi * np.cumsum(pitches) / 16_000)
        save_wav(folder / f"{seed}.wav", tone.astype(np.float32))
        found.append((f"reply-{seed}", folder / f"{seed}.wav"))
    return found


@pytest.fixture(scope="module")
def fitted(encoder, recordings, tmp_path_factory):
    output = tmp_path_factory.mktemp("fit")
    paths = [path for _, path in recordings]
    return output, fit_units(paths, encoder, CONFIG, clusters=CLUSTERS, output=output, seed=3)


@pytest.fixture
def extractor(fitted, encoder):
    return UnitExtractor.load(fitted[0] / "units", encoder=encoder)


def test_the_fit_explains_most_of_the_features_and_reports_it(fitted, extractor, recordings):
    output, report = fitted
    assert report.inertia_per_frame < 0.5 * report.variance_per_frame
    assert report.frames == sum(len(extractor.extract(load_audio(path))) for _, path in recordings)
    merged = sum(len(extractor.extract_merged(load_audio(path))) for _, path in recordings)
    assert report.merged_units_per_second == pytest.approx(merged * 50 / report.frames)
    assert 2 <= report.used_units <= CLUSTERS == extractor.units
    assert json.loads((output / "kmeans_report.json").read_text())["frames"] == report.frames


def test_a_fit_that_was_killed_before_its_report_leaves_no_units(
    encoder, recordings, tmp_path, monkeypatch
):
    class Killed(Exception):
        pass

    def nearest(*_):
        raise Killed

    monkeypatch.setattr(UnitExtractor, "nearest", nearest)
    with pytest.raises(Killed):
        fit_units(
            [path for _, path in recordings], encoder, CONFIG, clusters=CLUSTERS, output=tmp_path
        )
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_gives_the_same_units(fitted, extractor, encoder, recordings, tmp_path):
    paths = [path for _, path in recordings]
    fit_units(paths, encoder, CONFIG, clusters=CLUSTERS, output=tmp_path, seed=3, batch_size=2)
    again = UnitExtractor.load(tmp_path / "units", encoder=encoder)
    torch.testing.assert_close(again.centroids, extractor.centroids, atol=1e-4, rtol=1e-4)


def test_no_more_speech_is_read_than_asked_for(encoder, recordings, tmp_path):
    paths = [path for _, path in recordings]
    report = fit_units(
        paths, encoder, CONFIG, clusters=2, output=tmp_path, max_hours=1e-6, batch_size=1
    )
    assert report.frames <= 50  # one file of at most a second


def test_too_little_speech_for_the_clusters_is_refused(encoder, recordings, tmp_path):
    with pytest.raises(UserError, match="clusters=1000"):
        fit_units([recordings[0][1]], encoder, CONFIG, clusters=1000, output=tmp_path)


def test_labels_are_the_extractors_units_in_a_file_and_in_hand(extractor, recordings, tmp_path):
    output = tmp_path / "frame_units.jsonl"
    labels = label_corpus(recordings, extractor, output, batch_size=2)
    assert list(labels) == [key for key, _ in recordings]
    written = read_frame_units(output)
    for key, path in recordings:
        assert np.array_equal(labels[key], extractor.extract(load_audio(path)))
        assert np.array_equal(labels[key], written[key])


def count_reads(monkeypatch) -> list[str]:
    read: list[str] = []

    def load(path):
        read.append(path.stem)
        return load_audio(path)

    monkeypatch.setattr(train.voice.kmeans, "load_audio", load)
    return read


def test_a_killed_run_goes_on_where_it_stopped(extractor, recordings, tmp_path, monkeypatch):
    output = tmp_path / "frame_units.jsonl"
    whole = label_corpus(recordings, extractor, tmp_path / "whole.jsonl", batch_size=2)
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    torn = "".join(lines[:3]) + lines[3][:10]  # two recordings, and half of the third
    (tmp_path / "frame_units.jsonl.part").write_text(torn)
    read = count_reads(monkeypatch)
    resumed = label_corpus(recordings, extractor, output, batch_size=2)
    assert len(read) == 3
    assert all(np.array_equal(resumed[key], whole[key]) for key in whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frame_units.jsonl", "whole.jsonl"]


def test_a_corpus_that_grew_is_labelled_only_where_it_is_new(
    extractor, recordings, tmp_path, monkeypatch
):
    output = tmp_path / "frame_units.jsonl"
    label_corpus(recordings[:3], extractor, output)
    read = count_reads(monkeypatch)
    assert len(label_corpus(recordings, extractor, output)) == 5
    assert sorted(read) == ["3", "4"]
    label_corpus(recordings, extractor, output)
    assert len(read) == 2


def test_labels_of_another_extractor_are_not_mixed_in(extractor, encoder, recordings, tmp_path):
    output = tmp_path / "frame_units.jsonl"
    label_corpus(recordings[:1], extractor, output)
    other = UnitExtractor(CONFIG, extractor.centroids + 1.0, encoder)
    with pytest.raises(UserError, match="another unit extractor"):
        label_corpus(recordings, other, output)


def test_a_key_that_names_two_recordings_is_refused(extractor, recordings, tmp_path):
    twice = [recordings[0], (recordings[0][0], recordings[1][1])]
    with pytest.raises(UserError, match="reply-0"):
        label_corpus(twice, extractor, tmp_path / "frame_units.jsonl")
