from .data import QUESTIONS as QUESTIONS
from .data import build_nano as build_nano
from .data import write_wav as write_wav
