from . import build as build
from .build import check_config as check_config
from .build import read_recipe as read_recipe
