from . import plot as plot
from . import tuning as tuning
from .tuning import Report as Report
from .tuning import measure as measure
from .tuning import report as report
from .tuning import write_schedule as write_schedule
