"""Tests, in folders that mirror the rooms of the package; what they share is in tests/cases."""

import pytest

pytest.register_assert_rewrite("tests.cases")  # assertions there tell values too
