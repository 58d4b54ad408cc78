"""What the project logs, without what other libraries say from threads of their own."""

import pytest

PACKAGES = {"omni", "train", "data_tools", "serve"}


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of the project's loggers, in order."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.partition(".")[0] in PACKAGES
    ]
