"""What several processes make together: each its share, nothing twice, joined once."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from omni.audio import save_wav
from omni.files import UserError
from omni.files.ragged import RaggedStore, fill
from omni.files.share import ALONE, Share
from omni.units import UnitExtractor, UnitsConfig
from tests.tiny import question, tiny_model
from train.loop.order import BucketSampler, Dealt, Item
from train.voice.kmeans import label_corpus, read_frame_units

T = TypeVar("T")
KEYS = [f"key-{number}" for number in range(7)]
BATCHES = [KEYS[:2], KEYS[2:4], KEYS[4:6], KEYS[6:]]


class Killed(Exception):
    pass


def by(size: int, work: Callable[[Share], T]) -> list[T]:
    """What each of so many processes makes; threads, which wait for each other as they would."""
    meet = Barrier(size, timeout=60)

    def wait() -> None:
        meet.wait()

    def one(rank: int) -> T:
        return work(Share(rank, size, wait))

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(one, range(size)))


def array(key: str) -> Tensor:
    number = KEYS.index(key)
    return torch.full((number + 1, 3), float(number))


def filled(folder: Path, share: Share, made: list[str], fatal: str | None = None) -> RaggedStore:
    """`made` gets the keys that this process makes; it dies at the key `fatal`."""

    def make(keys: Sequence[str]) -> list[Tensor]:
        if fatal in keys:
            raise Killed
        made.extend(keys)
        return [array(key) for key in keys]

    return fill(
        folder, made_of={"what": "counts"}, batches=BATCHES, make=make, width=3, label="counts",
        share=share,
    )  # fmt: skip


def assert_whole(folder: Path, store: RaggedStore) -> None:
    assert all(torch.equal(store[key].float(), array(key)) for key in KEYS)
    left = {path.name for path in folder.iterdir()} - {"index.jsonl.lock"}
    assert left == {"index.jsonl", "values.bin"}


@pytest.mark.parametrize("size", [2, 3])
def test_a_cache_is_filled_by_all_and_joined_once(tmp_path: Path, size: int) -> None:
    made: list[list[str]] = [[] for _ in range(size)]
    for store in by(size, lambda share: filled(tmp_path, share, made[share.rank])):
        assert_whole(tmp_path, store)
    assert all(made), "a process had nothing to do"
    assert sorted(chain(*made)) == KEYS
    assert len((tmp_path / "index.jsonl").read_text().splitlines()) == 1 + len(KEYS)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_what_killed_processes_have_made_is_not_made_again(tmp_path: Path, size: int) -> None:
    before: list[list[str]] = [[], []]
    waits: list[None] = []

    def wait() -> None:  # in vain for the other, who is dead
        waits.append(None)
        if len(waits) == 2:
            raise Killed

    with pytest.raises(Killed):
        filled(tmp_path, Share(1, 2), before[1], fatal=KEYS[6])
    with pytest.raises(Killed):
        filled(tmp_path, Share(0, 2, wait), before[0])
    after: list[list[str]] = [[] for _ in range(size)]
    for store in by(size, lambda share: filled(tmp_path, share, after[share.rank])):
        assert_whole(tmp_path, store)
    assert all(before) and any(after)
    assert sorted(chain(*before, *after)) == KEYS


def test_a_second_run_may_read_a_cache_that_is_being_filled_and_not_fill_it(
    tmp_path: Path,
) -> None:
    filled(tmp_path, ALONE, [])

    def fill_more(key: str, meanwhile: Callable[[], None]) -> RaggedStore:
        def make(keys: Sequence[str]) -> list[Tensor]:
            meanwhile()
            return [torch.full((2, 3), 7.0) for _ in keys]

        return fill(
            tmp_path, made_of={"what": "counts"}, batches=[[key]], make=make, width=3, label="more"
        )

    def meanwhile() -> None:
        assert all((filled(tmp_path, ALONE, [])[key].float() == array(key)).all() for key in KEYS)
        with pytest.raises(UserError, match="another run is working on it"):
            fill_more("other", lambda: None)

    assert (fill_more("new", meanwhile)["new"] == 7).all()
    assert (fill_more("other", lambda: None)["other"] == 7).all()


def test_a_corpus_is_labelled_by_all_as_by_one(tmp_path: Path) -> None:
    model = tiny_model(vocoder=None)
    config = UnitsConfig(kind="speech_encoder", name="speech_encoder", layer=1)
    torch.manual_seed(0)
    extractor = UnitExtractor(config, torch.randn(4, 32), model.speech_encoder)
    recordings = []
    for number in range(5):
        path = tmp_path / f"{number}.wav"
        save_wav(path, question(0.3 + 0.1 * number, seed=number))
        recordings.append((path.stem, path))

    def label(share: Share, output: Path):
        return label_corpus(recordings, extractor, output, batch_size=2, share=share)

    alone = label(ALONE, tmp_path / "alone.jsonl")
    together = tmp_path / "together.jsonl"
    for found in by(2, lambda share: label(share, together)):
        assert [*found] == [*alone]
        assert all((found[key] == alone[key]).all() for key in alone)
    assert read_frame_units(together).keys() == alone.keys()
    assert not [*tmp_path.glob("together.jsonl.*")]


@pytest.mark.parametrize(("processes", "batch_size"), [(1, 2), (2, 4), (2, 2), (4, 2), (3, 1)])
def test_every_step_takes_the_same_examples_from_any_number_of_processes(
    processes: int, batch_size: int
) -> None:
    order = BucketSampler([1 + n % 5 for n in range(29)], 8 if batch_size > 1 else 3, seed=3)
    shares = [[*Dealt(order, batch_size, Share(rank, processes))] for rank in range(processes)]
    assert len({len(batches) for batches in shares}) == 1, "one process would wait for ever"
    assert all(0 < len(batch) <= batch_size for batches in shares for batch in batches)
    per_step = order.size // (processes * batch_size)
    items = [*order]
    whole = len(items) // order.size
    for step in range(whole):
        rows = range(step * per_step, (step + 1) * per_step)
        taken: list[Item] = [i for batches in shares for row in rows for i in batches[row]]
        expected = items[step * order.size : (step + 1) * order.size]
        assert sorted(map(repr, taken)) == sorted(map(repr, expected))
    last = [i for batches in shares for row in batches[whole * per_step :] for i in row]
    if batch_size > 1:  # else one too many for all processes would be left out
        assert sorted(map(repr, last)) == sorted(map(repr, items[whole * order.size :]))
