"""push_to_hub: the whole checkpoint, so that whoever reads it needs nothing of this machine."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omni.about import NAME as CARD
from omni.about import is_generated
from omni.checkpoint.saving import BASES, write_checkpoint
from omni.files import CheckpointError

if TYPE_CHECKING:
    from omni.model import OmniForConditionalGeneration

# Of transformers' push_to_hub; the rest says how to save.
KEYWORDS = ("commit_message", "commit_description", "private", "revision", "create_pr", "tags")
# Files of an earlier upload that would be read in place of what a new one leaves out.
STALE = ("*.safetensors", *(f"{part}/*" for part in (*BASES, "vocoder")))


def push(
    model: OmniForConditionalGeneration,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    tags: list[str] | None = None,
    **saving: Any,
) -> Any:
    """Write a checkpoint and upload it, in one commit. Returns what huggingface_hub says of it.

    Bases that are folders of this machine are carried; hub ids are named. The tokenizer is
    `processor`'s, else that of the checkpoint that the model was read from. A model card that a
    person has written in the repository stays as it is there.
    saving: keywords of `write_checkpoint`. The others are those of transformers.
    Raises CheckpointError, before anything is uploaded, where no tokenizer is known.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        metadata = {**(saving.pop("metadata", None) or {}), **({"tags": tags} if tags else {})}
        settings: dict[str, Any] = {
            "portable": True,
            "title": repo_id,
            "metadata": metadata,
        } | saving
        write_checkpoint(model, folder, **settings)
        if not (folder / "tokenizer_config.json").is_file():
            raise CheckpointError(
                f"push_to_hub({repo_id!r}): no tokenizer is known, and nobody could ask the model "
                "anything without one; give processor="
            )
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        kept = _card_of_a_person(api, repo_id, revision)
        return api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message or "Upload model",
            commit_description=commit_description,
            revision=revision,
            create_pr=create_pr,
            delete_patterns=list(STALE),
            ignore_patterns=[CARD] if kept else None,
        )


def _card_of_a_person(api: Any, repo_id: str, revision: str | None) -> bool:
    from huggingface_hub.errors import EntryNotFoundError, RevisionNotFoundError

    try:
        card = Path(api.hf_hub_download(repo_id, CARD, revision=revision))
    except (EntryNotFoundError, RevisionNotFoundError):
        return False
    return not is_generated(card)
