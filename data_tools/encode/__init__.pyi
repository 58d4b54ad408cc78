from .features import FeaturesConfig as FeaturesConfig
from .features import extract_features as extract_features
from .units import load_units_step as load_units_step
