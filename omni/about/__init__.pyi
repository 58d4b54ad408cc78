from .card import NAME as NAME
from .card import front_matter as front_matter
from .card import is_generated as is_generated
from .card import write_card as write_card
from .parts import LORA_BASE as LORA_BASE
from .parts import CheckpointInfo as CheckpointInfo
from .parts import describe as describe
