"""Tests of Hilum; modules whose names do not begin with ``test_`` hold what several of them use."""

import pytest

# So that an assert in those modules says what it compared, too.
pytest.register_assert_rewrite(*(f"{__name__}.{package}" for package in ("dicom_node", "peers", "training", "worker")))
