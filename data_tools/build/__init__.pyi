from .recipe import build as build
from .recipe import check_config as check_config
from .recipe import read_recipe as read_recipe
