from .config import UnitsConfig as UnitsConfig
from .config import merge_repeats as merge_repeats
from .config import read_units_config as read_units_config
from .config import write_units_config as write_units_config
from .extractor import UnitExtractor as UnitExtractor
from .features import features_of as features_of
