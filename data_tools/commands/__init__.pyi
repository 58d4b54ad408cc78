from . import build as build
from . import speech as speech
from . import texts as texts
from .speech import Source as Source
