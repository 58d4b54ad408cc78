from .data import QUESTIONS as QUESTIONS
from .data import build_mini as build_mini
