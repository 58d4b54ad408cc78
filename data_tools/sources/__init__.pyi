from .reading import HUB as HUB
from .reading import ImportConfig as ImportConfig
from .reading import import_records as import_records
from .splits import SplitStep as SplitStep
from .splits import asked as asked
from .splits import counts as counts
from .splits import hold_out as hold_out
