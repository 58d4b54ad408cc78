from .drawing import plot as plot
from .tuning import Report as Report
from .tuning import measure as measure
from .tuning import report as report
from .tuning import settings_of as settings_of
from .tuning import write_schedule as write_schedule
