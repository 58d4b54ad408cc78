"""What we still use of transformers that it does not promise to keep, and that there is no more.

A release of transformers may change any of these in silence. Whoever takes one in looks here
first; whoever needs another private name adds it here with its reason, or finds a public way.
"""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from transformers import GenerationConfig

from omni.auto import AUTO
from omni.config import OmniConfig
from omni.model import OmniForConditionalGeneration
from omni.processor import OmniProcessor
from tests.paths import ROOT
from tests.source import parsed
from train.loop.trainer import OmniTrainer

PACKAGES = ("omni", "train", "data_tools", "serve")
FILES = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]

# Names of its base classes that begin with "_" and are overridden by ours.
OVERRIDDEN = {
    OmniForConditionalGeneration: {
        "_expand_inputs_for_generation",  # beams: a row's recordings are repeated together
        "_init_weights",  # every part initialises itself, and must not be initialised again
        "_supports_flash_attn",  # what the language model may be asked for
        "_supports_sdpa",
    },
    OmniProcessor: set(),
    OmniConfig: set(),
    OmniTrainer: {
        "_get_num_items_in_batch",  # ours are means over other things than labels
        "_issue_warnings_after_load",  # frozen weights are missing from checkpoints on purpose
        "_save",  # only what trains is written
        "_save_rng_state",  # the last that every process does before a checkpoint is complete
    },
}  # fmt: skip
# Attributes that begin with "_" of objects that others made.
ATTRIBUTES = {
    "_convolution_pointwise",  # torch's: oneDNN's convolutions with a weight packed beforehand
    "_convolution_transpose_pointwise",
    "_reorder_convolution_transpose_weight",
    "_dynamo",  # torch's: a buffer that CUDA graphs may write in place is marked as one
    "_from_model_config",  # a mark by which generation settings would lose the chunk schedule
    "_linear_pointwise",  # torch's: oneDNN's products, which its linear layers don't take
    "_modules",  # torch's: a copy of an encoder with fewer layers
    "_n_gpu",  # transformers': above one, the Trainer would share a batch out by DataParallel
    "_scaled_dot_product_flash_attention_for_cpu",  # torch's: its operations are counted
    "_Unpickler",  # Python's own, in Python: the only one that can be told what it may build
}
# Modules that the documentation of transformers names, beside what the package itself exports.
DOCUMENTED = {
    "transformers.audio_utils": {"mel_filter_bank"},
    "transformers.integrations.deepspeed": {"set_hf_deepspeed_config", "unset_hf_deepspeed_config"},
    "transformers.modeling_outputs": {"CausalLMOutputWithPast"},
    "transformers.trainer_utils": {"seed_worker"},
    "transformers.utils": {"ModelOutput", "logging"},
}
# Modules of single models, whose content is nobody's promise.
UNDOCUMENTED = {
    # Whisper's text normaliser: the word error rates of the field are counted after it.
    "transformers.models.whisper.english_normalizer": {"EnglishTextNormalizer"},
}
# What omni/auto.py finds in modules of transformers that it never imports itself.
AWAITED = {
    "configuration_auto": {"AutoConfig", "CONFIG_MAPPING"},
    # The last: names that the any-to-any pipeline compares with, which `register` leaves out.
    "modeling_auto": {
        "AutoModel", "AutoModelForMultimodalLM", "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    },
    "processing_auto": {"AutoProcessor"},
}  # fmt: skip


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of each import from transformers."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "transformers":
                    yield alias.name, ""
        elif (
            isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "transformers"
        ):
            for alias in node.names:
                yield str(node.module), alias.name


def own_names() -> set[str]:
    """Every name that our code itself defines: functions, attributes and variables."""
    names: set[str] = set()
    for path in FILES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                names.add(node.attr)
    return names


OWN = own_names()


def private_attributes(path: Path) -> set[str]:
    """Names behind a dot that begin with "_" and that our code does not define itself."""
    return {
        node.attr
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in OWN
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_what_transformers_exports_or_documents_is_imported(path: Path) -> None:
    listed = DOCUMENTED | UNDOCUMENTED
    for module, name in imports(path):
        public = module == "transformers" and (not name or hasattr(transformers, name))
        assert public or name in listed.get(module, set()), f"{path}: {module}.{name} is private"


@pytest.mark.parametrize("kind", OVERRIDDEN, ids=lambda kind: kind.__name__)
def test_the_private_names_that_we_override_are_those_listed_and_still_there(kind: type) -> None:
    bases = [base for base in kind.__mro__ if base.__module__.startswith("transformers")]
    private = {name for name in vars(kind) if name.startswith("_") and not name.startswith("__")}
    overridden = {name for name in private if any(name in vars(base) for base in bases)}
    assert overridden == OVERRIDDEN[kind]


def test_the_private_attributes_that_we_touch_are_those_listed() -> None:
    assert set().union(*map(private_attributes, FILES)) == ATTRIBUTES


def test_the_mark_on_generation_settings_still_has_its_name() -> None:
    derived = GenerationConfig.from_model_config(transformers.LlamaConfig())
    assert derived._from_model_config is True
    assert not GenerationConfig()._from_model_config


@pytest.mark.parametrize("module", AWAITED)
def test_the_modules_of_the_auto_classes_are_where_they_were(module: str) -> None:
    found = importlib.import_module(f"{AUTO}.{module}")
    assert {name for name in AWAITED[module] if not hasattr(found, name)} == set()
    assert f"{{AUTO}}.{module}" in (ROOT / "omni" / "auto.py").read_text()


def test_everything_listed_is_used() -> None:
    used = {pair for path in FILES for pair in imports(path)}
    for module, names in (DOCUMENTED | UNDOCUMENTED).items():
        for name in names:
            assert (module, name) in used, f"{module}.{name} is listed and not used"
