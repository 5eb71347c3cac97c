"""What all tests share."""

import gc

import pytest


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Without what objects of earlier tests say when they are collected as garbage."""
    gc.collect()
    caplog.clear()
    return caplog
