"""What trains is data, and is checked: a recipe names the parts, everything else stands still."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Freeze:
    """Names of the submodules that train; every other parameter of the module is frozen.

    lora: submodules in which only what peft added trains.
    """

    trained: tuple[str, ...]
    lora: tuple[str, ...] = ()

    def trains(self, parameter: str) -> bool:
        """Whether the parameter of that name trains under this recipe."""
        if any(_inside(parameter, part) for part in self.trained):
            return True
        return "lora_" in parameter and any(_inside(parameter, part) for part in self.lora)

    def apply(self, module: nn.Module) -> None:
        """Set requires_grad by the recipe. Raises ValueError if a named part does not exist."""
        names = [name for name, _ in module.named_parameters()]
        for part in (*self.trained, *self.lora):
            if not any(_inside(name, part) for name in names):
                known = sorted({name.split(".")[0] for name in names})
                raise ValueError(f"trained part {part!r}: not in the model; it has {known}")
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(self.trains(name))

    def check_gradients(self, module: nn.Module) -> None:
        """Raise RuntimeError if a frozen parameter has received a gradient, or could.

        DeepSpeed keeps gradients elsewhere: there it tells that a parameter asks for one.
        """
        for name, parameter in module.named_parameters():
            moves = parameter.grad is not None or parameter.requires_grad
            if moves and not self.trains(name):
                raise RuntimeError(
                    f"{name} has a gradient, but only {', '.join(self.trained + self.lora)} may "
                    "train; "
                    "a stage must not unfreeze another"
                )


def _inside(parameter: str, part: str) -> bool:
    return parameter == part or parameter.startswith(part + ".")
