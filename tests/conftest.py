"""Settings for all tests."""

from hypothesis import settings

# How long an example takes says nothing about its truth, and much about what else the machine does
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
