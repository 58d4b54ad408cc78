from .check import Check as Check
from .check import CheckConfig as CheckConfig
from .check import check_manifest as check_manifest
from .report import write_report as write_report
