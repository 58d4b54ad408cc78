from .client import FRAME_S as FRAME_S
from .client import Spoken as Spoken
from .command import load_command as load_command
from .own_server import own_server as own_server
from .report import percentiles as percentiles
