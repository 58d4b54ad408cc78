from .bases import base_config as base_config
from .bases import load_language_model as load_language_model
from .bases import load_speech_encoder as load_speech_encoder
from .bases import load_tokenizer as load_tokenizer
from .extractors import load_units as load_units
from .hub import push as push
from .pretrained import read_checkpoint as read_checkpoint
from .saving import save_pretrained as save_pretrained
