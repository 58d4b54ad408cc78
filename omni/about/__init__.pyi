from . import describe as describe
from .card import NAME as NAME
from .card import front_matter as front_matter
from .card import is_generated as is_generated
from .card import write_card as write_card
from .describe import LORA_BASE as LORA_BASE
from .describe import CheckpointInfo as CheckpointInfo
