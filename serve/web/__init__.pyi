from .address import bind as bind
from .app import create_app as create_app
from .running import describe as describe
from .running import load as load
from .running import model_of as model_of
from .running import serve as serve
from .settings import ServeSettings as ServeSettings
from .settings import read_settings as read_settings
