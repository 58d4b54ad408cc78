"""fairseq's HuBERT .pt -> transformers' HubertModel, in a units folder that names it.

fairseq's `output_layer=k` is transformers' `hidden_states[k]`; layers count from 1.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel

from omni.files import CheckpointError, check_weights, replace_folder
from omni.foreign.pickles import unwrap
from omni.foreign.stream import Progress, total_bytes, write_folder
from omni.foreign.torch_files import read_mapping, state_dict
from omni.units import UnitsConfig, write_units_config

MHUBERT_LAYER = 11  # of the published units (Lee et al. 2022, LLaMA-Omni)
ENCODER_FOLDER = "hubert"  # inside a units folder

# transformers' names -> fairseq's. The two halves of a weight norm are g and v.
_RENAMED = (
    (r"\.attention\.", ".self_attn."),
    (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
    (r"\.feed_forward\.output_dense\.", ".fc2."),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original0$",
     "encoder.pos_conv.0.weight_g"),
    (r"^encoder\.pos_conv_embed\.conv\.parametrizations\.weight\.original1$",
     "encoder.pos_conv.0.weight_v"),
    (r"^encoder\.pos_conv_embed\.conv\.", "encoder.pos_conv.0."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.conv\.", r"\1.0."),
    (r"^masked_spec_embed$", "mask_emb"),
)  # fmt: skip
_PRETRAINING = ("final_proj.", "label_embs_concat")  # heads that only HuBERT's training uses


@dataclass(frozen=True)
class HubertWeights:
    """A HuBERT that still lies in its file. normalize: whether it hears layer-normed waveforms."""

    config: HubertConfig
    tensors: dict[str, Tensor]
    normalize: bool

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, as `write` will store them."""
        return total_bytes(self.tensors)

    def resolve_layer(self, layer: int | None) -> int:
        """None: the published 11, or the last of a smaller model. Raises CheckpointError."""
        layers = int(self.config.num_hidden_layers)
        layer = min(MHUBERT_LAYER, layers) if layer is None else layer
        if not 1 <= layer <= layers:
            raise CheckpointError(f"layer={layer}: this HuBERT has layers 1 to {layers}")
        return layer

    def write(
        self, folder: str | Path, progress: Progress | None = None, *, layer: int | None = None
    ) -> None:
        """FOLDER/hubert and FOLDER/config.json, beside centroids that may lie there.

        layer: whose features the units are; see `resolve_layer`.
        """
        layer = self.resolve_layer(layer)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replace_folder(folder / ENCODER_FOLDER) as aside:
            self.config.architectures = ["HubertModel"]
            self.config.save_pretrained(aside)
            write_folder(aside, self.tensors, progress)
        units = UnitsConfig(
            kind="hubert", name=ENCODER_FOLDER, layer=layer, normalize_waveform=self.normalize
        )
        write_units_config(units, folder)


def read_hubert(path: str | Path) -> HubertWeights:
    """A fairseq checkpoint, checked but unread.

    Raises CheckpointError, naming what is wrong with the file or unknown in its settings.
    """
    content = read_mapping(path, "model", kind="fairseq checkpoint")
    model, task = _settings(content, str(path))
    config = _config(model, str(path))
    with torch.device("meta"):
        expected = HubertModel(config).state_dict()
    names = {name: fairseq_name(name, config.feat_extract_norm) for name in expected}
    found = {
        name: tensor
        for name, tensor in state_dict(content, "model", path).items()
        if not name.startswith(_PRETRAINING)
    }
    wanted = {names[name]: tensor for name, tensor in expected.items()}
    check_weights(wanted, found, where=str(path))
    tensors = {name: found[foreign] for name, foreign in names.items()}
    return HubertWeights(config, tensors, bool(task.get("normalize", False)))


def fairseq_name(name: str, norm: str) -> str:
    """transformers' name of a weight -> fairseq's. norm: the extractor's, "group" or "layer"."""
    within = "2" if norm == "group" else "2.1"
    pattern = r"^(feature_extractor\.conv_layers\.\d+)\.layer_norm\."
    name = re.sub(pattern, rf"\g<1>.{within}.", name)
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _settings(content: dict[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model's and task's settings: under cfg in newer files, in one namespace in older ones."""
    config, arguments = unwrap(content.get("cfg")), unwrap(content.get("args"))
    if isinstance(config, dict) and isinstance(config.get("model"), dict):
        task = config.get("task")
        return config["model"], task if isinstance(task, dict) else {}
    if isinstance(arguments, dict):
        return arguments, arguments
    raise CheckpointError(f"{where}: has neither cfg nor args, so its sizes are unknown")


def _config(model: dict[str, Any], where: str) -> HubertConfig:
    """fairseq's settings in transformers' words; what transformers cannot do is refused."""
    for key, supported in (
        ("_name", ("hubert",)), ("arch", ("hubert",)), ("layer_type", ("transformer",)),
        ("pos_enc_type", ("abs",)), ("activation_fn", ("gelu",)),
        ("extractor_mode", ("default", "layer_norm")),
    ):  # fmt: skip
        if (value := model.get(key, supported[0])) not in supported:
            raise CheckpointError(
                f"{where}: {key}={value!r}; only {' or '.join(supported)} can be converted"
            )
    try:
        convolutions = parse_layers(model["conv_feature_layers"])
        widths, kernels, strides = zip(*convolutions, strict=True)
        return HubertConfig(
            hidden_size=int(model["encoder_embed_dim"]),
            num_hidden_layers=int(model["encoder_layers"]),
            num_attention_heads=int(model["encoder_attention_heads"]),
            intermediate_size=int(model["encoder_ffn_embed_dim"]),
            conv_dim=widths,
            conv_kernel=kernels,
            conv_stride=strides,
            conv_bias=bool(model.get("conv_bias", False)),
            num_conv_pos_embeddings=int(model["conv_pos"]),
            num_conv_pos_embedding_groups=int(model["conv_pos_groups"]),
            feat_extract_norm=(
                "group" if model.get("extractor_mode", "default") == "default" else "layer"
            ),
            do_stable_layer_norm=bool(model.get("layer_norm_first", False)),
            apply_spec_augment=False,
        )
    except KeyError as error:
        raise CheckpointError(f"{where}: its settings lack {error}; get the file again") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: its settings are not a HuBERT's ({error})") from None


def parse_layers(expression: str) -> list[tuple[int, int, int]]:
    """ "[(512,10,5)] + [(512,3,2)] * 4" -> [(width, kernel, stride), ...], without evaluating it.

    Raises ValueError for anything but sums and multiples of lists of three numbers.
    """
    layers = _layers(ast.parse(expression, mode="eval").body)
    if not layers or not all(
        isinstance(layer, tuple) and len(layer) == 3 and all(type(n) is int for n in layer)
        for layer in layers
    ):
        raise ValueError(f"conv_feature_layers {expression!r}: needs (width, kernel, stride) each")
    return layers


def _layers(node: ast.expr) -> list[Any]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _layers(node.left) + _layers(node.right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if type(times) is int and 0 < times <= 100:
            return _layers(node.left) * times
    if isinstance(node, ast.List):
        return list(ast.literal_eval(node))
    raise ValueError("conv_feature_layers: only sums and multiples of lists are known")
