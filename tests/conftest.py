"""Settings for all tests."""

import signal

from hypothesis import settings

# How long an example takes says nothing about its truth, and much about what else the machine does
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# A shell without job control starts what it puts into the background with SIGINT ignored, and children inherit
# that: those that a test ends by SIGINT would go on for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
