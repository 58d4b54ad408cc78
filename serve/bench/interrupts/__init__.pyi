from .client import Interrupted as Interrupted
from .client import measure as measure
from .client import onset_s as onset_s
from .command import interrupt_command as interrupt_command
