"""`import omni` makes transformers' Auto classes know it, in any order, and stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

import omni
from omni.auto import when_imported

NANO = Path(omni.__file__).parent / "nano" / "checkpoint"
READ = f"""
from transformers import AutoConfig, AutoModel, AutoModelForMultimodalLM, AutoProcessor
NANO = {str(NANO)!r}
assert AutoConfig.from_pretrained(NANO).model_type == "omni"
for reader, name in (
    (AutoConfig, "OmniConfig"), (AutoProcessor, "OmniProcessor"),
    (AutoModel, "OmniForConditionalGeneration"),
    (AutoModelForMultimodalLM, "OmniForConditionalGeneration"),
):
    assert type(reader.from_pretrained(NANO)) is getattr(omni, name), name
"""


def run(code: str) -> None:
    """In a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_omni_imports_nothing_heavy() -> None:
    run("import omni, sys; assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()")


def test_telling_the_auto_classes_imports_none_of_our_own() -> None:
    run(
        "import omni, sys\n"
        "from transformers import AutoConfig, AutoModel, AutoProcessor\n"
        "assert {name for name in sys.modules if name.startswith('omni')} == {'omni', 'omni.auto'}"
    )


@pytest.mark.parametrize(
    "imports",
    [
        "import omni",
        "import transformers; import omni",
        "from transformers import AutoModel; import omni",
        "from transformers import AutoConfig, AutoModelForMultimodalLM, AutoProcessor; import omni",
        "from transformers import pipeline; import omni",
        "from transformers import GenerationMixin; import omni",
        "import omni; from transformers import GenerationMixin",
    ],
)
def test_the_auto_classes_know_a_checkpoint_whatever_was_imported_first(imports: str) -> None:
    run(f"{imports}\n{READ}")


@pytest.mark.parametrize(
    "imports",
    [
        "from omni.config import OmniConfig",
        "from omni.processor import OmniProcessor",
        "from omni.model import OmniForConditionalGeneration",
        "from omni.prompt import Message",
    ],
)
def test_each_module_can_be_the_first_one_imported(imports: str) -> None:
    run(f"import omni\n{imports}\n{READ}")


@pytest.mark.parametrize(
    "imports",
    [
        "import omni; from transformers import AutoModel",
        "from transformers import AutoModel; import omni",
    ],
)
def test_a_model_is_built_from_a_configuration_that_no_auto_class_has_read(imports: str) -> None:
    run(
        f"{imports}\nconfig = omni.OmniConfig.from_pretrained({str(NANO)!r})\n"
        "assert type(AutoModel.from_config(config)) is omni.OmniForConditionalGeneration"
    )


def test_other_models_are_left_alone() -> None:
    run(
        "import omni\nfrom transformers import AutoConfig, AutoModel, LlamaConfig\n"
        "config = AutoConfig.for_model('llama', hidden_size=8, num_hidden_layers=1, vocab_size=9,"
        " intermediate_size=8, num_attention_heads=2)\n"
        "assert type(config) is LlamaConfig\n"
        "assert type(AutoModel.from_config(config)).__name__ == 'LlamaModel'"
    )


def test_an_action_waits_for_its_module_and_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "awaited_module.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen: list[int] = []
    when_imported("awaited_module", lambda module: seen.append(module.VALUE))
    assert seen == []
    import awaited_module  # pyright: ignore[reportMissingImports]

    assert seen == [3]
    when_imported("awaited_module", lambda module: seen.append(module.VALUE + 1))
    assert seen == [3, 4]
    assert awaited_module.__loader__.get_source("awaited_module") == "VALUE = 3\n"
