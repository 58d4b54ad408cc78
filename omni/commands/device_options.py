"""How every command asks where a model runs and in which type; `omni.devices` knows the answer."""

# No heavy imports: commands show their help without torch.
from typing import Annotated

import typer

DEVICE_HELP = "auto (a GPU if there is one), cpu, cuda, cuda:N or mps."
Device = Annotated[str, typer.Option(metavar="NAME", help=DEVICE_HELP)]
DTYPE_NAMES = "auto (what is fast there), float32, bfloat16 or float16"
# Of a whole model that answers.
StoredDtype = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"{DTYPE_NAMES}. Default: float32 on a CPU, else as stored."),
]
Dtype = Annotated[str, typer.Option(metavar="NAME", help=f"{DTYPE_NAMES}.")]
COMPILE_HELP = "Compile the steps first: takes minutes, and at the next start less."
Compile = Annotated[bool, typer.Option("--compile", help=COMPILE_HELP)]
