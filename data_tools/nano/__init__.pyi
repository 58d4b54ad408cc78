from .data import QUESTIONS as QUESTIONS
from .data import build_nano as build_nano
