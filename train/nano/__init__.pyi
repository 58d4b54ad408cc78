from . import build as build
from .build import PARTS as PARTS
from .build import begin as begin
from .build import build_all as build_all
from .build import complete as complete
