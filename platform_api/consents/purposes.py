"""What consent can be asked for."""

from typing import Literal

Purpose = Literal["service", "service-personalisation", "training", "marketing"]
PURPOSES: tuple[Purpose, ...] = ("service", "service-personalisation", "training", "marketing")
# Consent to these is consent to a stated policy: a new version of it has to be agreed to anew.
BOUND_TO_POLICY: frozenset[Purpose] = frozenset({"service-personalisation", "training"})
