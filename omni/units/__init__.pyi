from .extractor import FORMAT_VERSION as FORMAT_VERSION
from .extractor import UnitExtractor as UnitExtractor
from .extractor import UnitsConfig as UnitsConfig
from .extractor import features_of as features_of
from .extractor import merge_repeats as merge_repeats
