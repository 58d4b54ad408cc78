from .folder import complete as complete
from .making import PARTS as PARTS
from .making import begin as begin
from .making import build as build
from .making import build_all as build_all
