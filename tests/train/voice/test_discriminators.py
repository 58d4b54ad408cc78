"""A vocoder that is trained against discriminators (HiFi-GAN)."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from omni.files import UserError
from omni.vocoder import NsfVocoder, load_vocoder
from tests.train.voice.test_train_vocoder import SMALL_CROP, TINY_HIFIGAN, TINY_NSF
from tests.train.voice.test_train_vocoder import clips as clips
from train.loop import LoopConfig
from train.voice.crops import CropConfig, Crops, collate
from train.voice.discriminators import DiscriminatorConfig, Discriminators
from train.voice.learning import LearnsToSound, LossWeights
from train.voice.vocoder import train_vocoder

LEAST = DiscriminatorConfig(channels=128)
LOOP = LoopConfig(
    epochs=1000, max_steps=8, batch_size=4, learning_rate=3e-3, save_steps=1000, eval_steps=1000
)


def size(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def tones(count: int) -> torch.Tensor:
    time = torch.arange(2000) / 16_000
    return 0.3 * torch.sin(2 * torch.pi * torch.linspace(100, 400, count)[:, None] * time)


def test_the_published_ones_have_the_papers_sizes() -> None:
    with torch.device("meta"):
        published = Discriminators(DiscriminatorConfig())
    assert size(published.by_period) == pytest.approx(41.1, abs=0.05)
    assert size(published.by_scale) == pytest.approx(29.6, abs=0.05)
    with pytest.raises(ValueError, match=r"channels=100: must be a multiple of 128"):
        DiscriminatorConfig(channels=100)


def test_each_side_learns_from_its_own_losses_alone() -> None:
    discriminators = Discriminators(LEAST)
    made = torch.randn(2, 2000, requires_grad=True)
    told = discriminators.judge(made, tones(2))
    (told.adversarial + told.features).sum().backward(retain_graph=True)
    assert made.grad is not None and (made.grad != 0).any(dim=1).all()
    assert all(parameter.grad is None for parameter in discriminators.parameters())
    made.grad = None
    told.discriminators.sum().backward()
    assert made.grad is None
    assert all(parameter.grad is not None for parameter in discriminators.parameters())


def test_a_waveform_is_judged_by_itself_whatever_is_beside_it() -> None:
    discriminators = Discriminators(LEAST)
    made = 0.1 * torch.randn(3, 2001, generator=torch.Generator().manual_seed(0))
    true = torch.nn.functional.pad(tones(3), (0, 1))
    together = discriminators.judge(made, true)
    for row in range(3):
        alone = discriminators.judge(made[row : row + 1], true[row : row + 1])
        for name, value in vars(alone).items():
            torch.testing.assert_close(getattr(together, name)[row : row + 1], value)


def test_they_learn_to_tell_what_is_made_from_what_is_true() -> None:
    torch.manual_seed(0)
    discriminators = Discriminators(LEAST)
    optimiser = torch.optim.AdamW(discriminators.parameters(), lr=1e-3)
    noise = torch.Generator().manual_seed(1)
    errors = []
    for _ in range(20):
        told = discriminators.judge(0.1 * torch.randn(4, 2000, generator=noise), tones(4))
        optimiser.zero_grad()
        told.discriminators.mean().backward()
        optimiser.step()
        errors.append(float(told.discriminators.mean().detach()))
    assert errors[-1] < 0.5 * errors[0]
    unseen = 0.1 * torch.randn(4, 2000, generator=noise)
    with torch.no_grad():
        of_noise = discriminators.judge(unseen, tones(4)).adversarial
        of_tones = discriminators.judge(tones(5)[:4], tones(4)).adversarial
    assert (of_noise > of_tones).all()


def test_they_hear_nothing_outside_of_the_frames_that_count(clips) -> None:
    crops = Crops(clips, num_units=4, crop=CropConfig(frames=40), seed=1)
    batch = collate([crops[0], crops[1]])  # recordings of 28 frames, padded
    learner = LearnsToSound(
        NsfVocoder(TINY_NSF), LossWeights(), Discriminators(LEAST), edge_frames=4
    ).eval()
    assert learner.part_names[-3:] == ("adversarial", "features", "discriminators")
    torch.manual_seed(0)
    before = learner(**batch)["parts"]
    outside = ~batch["counts"].repeat_interleave(320, dim=1)
    batch["labels"] = torch.where(outside, 0.5, batch["labels"])
    torch.manual_seed(0)
    after = learner(**batch)["parts"]
    torch.testing.assert_close(after[:, 5:], before[:, 5:])


@pytest.mark.parametrize("architecture", [TINY_NSF, TINY_HIFIGAN], ids=["nsf", "hifigan"])
def test_training_against_them_improves_both_sides_and_leaves_the_vocoder_alone(
    architecture, clips, tmp_path: Path
) -> None:
    results = []
    for steps in (1, 8):
        results.append(
            train_vocoder(
                clips, clips, architecture=architecture, loop=replace(LOOP, max_steps=steps),
                output=tmp_path / str(steps), crop=SMALL_CROP, discriminators=LEAST,
            )
        )  # fmt: skip
    for part in ("mel", "duration", "discriminators"):
        assert results[1][f"eval_{part}"] < results[0][f"eval_{part}"], part
    voice = load_vocoder(tmp_path / "8" / "vocoder")
    assert voice.config == architecture
    assert not any("by_period" in name for name in voice.state_dict())


def test_a_run_with_them_is_not_the_run_without(clips, tmp_path: Path) -> None:
    once = replace(LOOP, max_steps=1)
    call = {"architecture": TINY_NSF, "loop": once, "output": tmp_path, "crop": SMALL_CROP}
    train_vocoder(clips, [], **call)
    with pytest.raises(UserError, match="discriminators"):
        train_vocoder(clips, [], **call, discriminators=LEAST)


@pytest.mark.parametrize("way", ["deepspeed", "fsdp"])
def test_they_are_refused_where_weights_are_sharded(
    way: str, clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.voice.vocoder.check_installed", lambda loop: None)
    loop = replace(LOOP, **{way: "file.json"})
    with pytest.raises(UserError, match=r"several processes do without, or give --discrim"):
        train_vocoder(
            clips, [], architecture=TINY_NSF, loop=loop, output=tmp_path, discriminators=LEAST
        )
    assert not any(tmp_path.iterdir())
