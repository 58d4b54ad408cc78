from .client import WIRE_RATE as WIRE_RATE
from .client import to_wire as to_wire
from .command import talk_command as talk_command
