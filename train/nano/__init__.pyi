from .making import NANO as NANO
