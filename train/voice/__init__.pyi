from .labels import answers as answers
from .labels import clips as clips
from .labels import join_voice as join_voice
from .labels import make_units as make_units
from .labels import unit_count as unit_count
from .probing import measure_layers as measure_layers
from .vocoder import UnitClip as UnitClip
from .vocoder import train_vocoder as train_vocoder
