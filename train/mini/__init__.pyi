from .making import MINI as MINI
