from .fetch import fetch_base as fetch_base
from .fetch import wanted_bases as wanted_bases
