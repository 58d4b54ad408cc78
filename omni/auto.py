"""transformers' Auto classes know omni as soon as `import omni` has run, and nothing heavy with it.

`import omni` loads neither torch nor transformers. So each Auto class is told of omni once its own
module is there: at once if it is imported already, else right after. What it is told of are
stand-ins, which turn into the real classes at their first use; an import that ended in another
import of ours could meet half a module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

AUTO = "transformers.models.auto"
MODEL_TYPE = "omni"
MODEL = "OmniForConditionalGeneration"
Action = Callable[[ModuleType], None]


class _AtFirstUse(type):
    """The class of classes that only name a class of omni, and become it when they are used."""

    @property
    def real(cls) -> Any:
        return getattr(sys.modules["omni"], cls.__name__)  # which imports it

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions are no use
            raise AttributeError(name)
        return getattr(cls.real, name)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.real(*args, **kwargs)


def _stand_in(name: str, **known: Any) -> Any:
    return _AtFirstUse(name, (), {"__module__": "omni", **known})


class _Watch:
    """Of sys.meta_path: runs the actions that wait for a module when it has been imported.

    Of our own and not wrapt's `when_imported`, which takes 40 ms to import.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, list[Action]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.waiting:
            return None
        found = (
            finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self
        )
        spec = next((spec for spec in found if spec is not None), None)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:
            return spec
        execute = loader.exec_module

        def execute_then_act(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            for action in self.waiting.pop(name, ()):
                action(module)

        loader.exec_module = execute_then_act
        return spec


_watch = _Watch()


def when_imported(name: str, action: Action) -> None:
    """Run `action` on a module: now if it is imported already, else right after its import."""
    if name in sys.modules:
        action(sys.modules[name])
        return
    if _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)
    _watch.waiting.setdefault(name, []).append(action)


def announce() -> None:
    """AutoConfig knows "omni". It is the first that a checkpoint's folder is put to, whichever
    Auto class or pipeline reads it; the others key their classes by the one that it gives."""

    def tell(module: ModuleType) -> None:
        if MODEL_TYPE not in module.CONFIG_MAPPING:  # omni.config may have come first
            module.AutoConfig.register(MODEL_TYPE, _stand_in("OmniConfig"))

    when_imported(f"{AUTO}.configuration_auto", tell)


def register(config_class: Any) -> None:
    """All Auto classes know the classes that belong to OmniConfig; called where it is defined."""

    def tell_models(module: ModuleType) -> None:
        model = _stand_in(MODEL, config_class=config_class)
        module.AutoModel.register(config_class, model)
        module.AutoModelForMultimodalLM.register(config_class, model)
        # The names that the any-to-any pipeline compares with, else it calls the model unsupported.
        module.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES[MODEL_TYPE] = MODEL

    def tell_processors(module: ModuleType) -> None:
        module.AutoProcessor.register(config_class, _stand_in("OmniProcessor"))

    when_imported(
        f"{AUTO}.configuration_auto",
        lambda module: module.AutoConfig.register(MODEL_TYPE, config_class, exist_ok=True),
    )
    when_imported(f"{AUTO}.modeling_auto", tell_models)
    when_imported(f"{AUTO}.processing_auto", tell_processors)
