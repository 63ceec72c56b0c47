"""Every security guard that is taken out in turn, with who gains what by it and the tests that fail without it."""

from tests.mutants.guards_client import CLIENT
from tests.mutants.guards_identity import IDENTITY
from tests.mutants.guards_pairwise import PAIRWISE
from tests.mutants.guards_privacy import PRIVACY
from tests.mutants.guards_with_helpers import WITH_HELPERS
from tests.mutants.record import Mutant

GUARDS: tuple[Mutant, ...] = (*PAIRWISE, *WITH_HELPERS, *IDENTITY, *CLIENT, *PRIVACY)
