"""A fitted k-means of scikit-learn is read without it, and what is none is refused."""

import pickle

import numpy as np
import pytest

from omni.files.folders import CheckpointError
from omni.foreign.kmeans import read_kmeans
from tests.published import KMEANS


def test_kmeans_is_read_as_joblib_reads_it():
    joblib = pytest.importorskip("joblib")
    expected = joblib.load(KMEANS).cluster_centers_
    assert np.array_equal(read_kmeans(KMEANS).values.numpy(), expected)


def test_a_fresh_kmeans_of_scikit_learn_is_read(tmp_path):
    joblib = pytest.importorskip("joblib")
    cluster = pytest.importorskip("sklearn.cluster")
    points = np.random.default_rng(0).normal(size=(40, 3))
    for place, fitted in enumerate(
        [
            cluster.KMeans(4, n_init=1, random_state=np.random.RandomState(0)).fit(points),
            cluster.MiniBatchKMeans(4, n_init=1).fit(np.asfortranarray(points)),
        ]
    ):
        file = tmp_path / f"{place}.bin"
        joblib.dump(fitted, file)
        expected = fitted.cluster_centers_.astype(np.float32)
        assert np.array_equal(read_kmeans(file).values.numpy(), expected)
        file.write_bytes(pickle.dumps(fitted))
        assert np.array_equal(read_kmeans(file).values.numpy(), expected)


def test_a_compressed_kmeans_is_told_how_to_help_itself(tmp_path):
    joblib = pytest.importorskip("joblib")
    joblib.dump({"a": np.zeros(3)}, tmp_path / "km.bin", compress=3)
    with pytest.raises(CheckpointError, match="compress=0"):
        read_kmeans(tmp_path / "km.bin")


def test_arrays_of_objects_are_refused(tmp_path):
    array = np.array([{}, 1], dtype=object)
    with pytest.raises(CheckpointError, match="no fitted k-means"):
        (tmp_path / "km.bin").write_bytes(pickle.dumps(array))
        read_kmeans(tmp_path / "km.bin")
    joblib = pytest.importorskip("joblib")
    joblib.dump({"cluster_centers_": array}, tmp_path / "km.bin")
    with pytest.raises(CheckpointError, match="only numbers"):
        read_kmeans(tmp_path / "km.bin")
