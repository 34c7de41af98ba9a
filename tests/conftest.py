"""A browser for the tests; without one they are skipped, or fail where one must be there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser import Browser, find_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_browser()
    if executable is None:
        reason = "no Chromium on the path: what the report does in a browser is not tested"
        if os.environ.get("SWIN_UNET_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with Browser(executable, tmp_path_factory.mktemp("profile")) as started:
        yield started
