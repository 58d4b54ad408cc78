from .making import MINI as MINI
from .setting import QUESTIONS as QUESTIONS
