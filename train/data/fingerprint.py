"""What a run is made of, as plain values to be compared: data by content, recipe, bases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, is_dataclass
from typing import Any

from data_tools.manifest import Manifest
from omni.files import digest_of, file_digest, files_digest
from train.data.batches import Example
from train.loop import LoopConfig, process_count, read_options

# May change in the middle of a run and leave it the same: how often it is saved and measured, and
# what it runs on. All else is the run, `max_steps` too: the learning rate falls towards its end.
FREE = ("save_steps", "eval_steps", "workers", "device")
FILES = ("deepspeed", "fsdp")  # told as what is written in them
ADDED = "added"  # mark of a recipe's field that older runs do not know
JOINED = ("batch_size", "accumulate")  # told as what they and the processes come to


def added(default: Any) -> Any:
    """A field that came to a recipe later. At its default the recipe is what it was without it, so
    that a run begun before goes on."""
    return field(default=default, metadata={ADDED: True})


def plain(value: Any) -> Any:
    """A recipe (dataclasses of dataclasses) as JSON values, without what may change.

    Of a loop, batches, their accumulation and the processes beside each other count as the
    examples of one step, and a DeepSpeed or FSDP file as what is written in it.
    """
    if isinstance(value, LoopConfig):
        left_out = (*FREE, *JOINED, *FILES)
        kept = {f.name: getattr(value, f.name) for f in fields(value) if f.name not in left_out}
        kept["examples_per_step"] = value.batch_size * value.accumulate * process_count()
        for name in FILES:
            if (path := getattr(value, name)) is not None:
                kept[name] = read_options(path)
        return kept
    if is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: plain(getattr(value, f.name))
            for f in fields(value)
            if not (ADDED in f.metadata and getattr(value, f.name) == f.default)
        }
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def data_of(
    manifest: Manifest, *splits: str, heard: Sequence[str] = ("user",), units: bool = False
) -> dict[str, Any]:
    """The records of these splits (of all, if none is named), wherever the manifest lies.

    heard: whose recordings the run hears; units: whether it learns the answers' units. What it does
    not use is left out, provenance and voices too: it may change in the manifest.
    """
    records = [record for record in manifest.records if not splits or record.split in splits]
    found: dict[str, Any] = {"records": dict(sorted(Counter(r.split for r in records).items()))}
    found["texts"] = digest_of(
        [
            [record.id, record.split, record.language, [[t.role, t.text] for t in record.turns]]
            for record in records
        ]
    )
    turns = [turn for record in records for turn in record.turns]
    if heard:
        spoken = [turn.speech is not None and turn.role in heard for turn in turns]
        found["spoken"] = digest_of(spoken)
        paths = (manifest.audio_path(t) for t, said in zip(turns, spoken, strict=True) if said)
        found["recordings"] = files_digest(paths)
    if units:
        found["units"] = digest_of([turn.units for turn in turns if turn.role == "assistant"])
    return found


def state_content(example: Example) -> str:
    """What the LLM's states of an answer depend on beside the model: the words of the answer and
    of all before it, and what the recordings hold. Records may so be renamed and reordered.

    The recordings' names count, for augmentation is drawn by them.
    """
    turns = [[turn.role, turn.text, turn.speech is not None] for turn in example.turns]
    return digest_of(turns, [[file_digest(path), path.name] for path in example.recordings])


def state_key(content: str, variant: int) -> str:
    """The key of one example's states in a store; content: `state_content` of it."""
    return f"{variant} {content}"


def tokenizer_digest(tokenizer: Any) -> str:
    """Of its vocabulary, merges and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    return digest_of(rules, tokenizer.chat_template)
