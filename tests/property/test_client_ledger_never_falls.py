"""Any sequence of charges, answers, refusals, reopenings and attempts to change it: the ledger never falls."""

import sqlite3
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from client.ledger import Entry, Ledger
from shared import accounting
from shared.accounting import Budget
from shared.errors import AlreadyAnswered, BudgetExhausted
from shared.mechanism import DiscreteGaussian, Gaussian, Mechanism

DELTA = 1e-6
CONTEXTS = st.integers(0, 9).map(lambda number: bytes([number]) * 32)
MECHANISMS: st.SearchStrategy[Mechanism] = st.one_of(
    st.builds(Gaussian, noise_std=st.floats(3, 200), sensitivity=st.floats(0.1, 2)),
    st.builds(
        DiscreteGaussian,
        noise_std=st.integers(3_000, 200_000),
        sensitivity=st.floats(500, 1_500),
        num_coordinates=st.integers(1, 100_000),
    ),
)


class LedgerNeverFalls(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger.create(Path(self.folder.name) / "ledger.db", clock=lambda: 0.0)
        self.seen: tuple[Entry, ...] = ()
        self.highest = 0.0
        self.largest_budget = 0.0

    @rule(context=CONTEXTS, mechanism=MECHANISMS, epsilon=st.sampled_from([0.3, 1.0, 4.0]))
    def charge(self, context: bytes, mechanism: Mechanism, epsilon: float) -> None:
        known = any(entry.kind == "release" and entry.context == context for entry in self.seen)
        fits = accounting.epsilon([*self.ledger.spent(), mechanism], DELTA) <= epsilon
        try:
            self.ledger.charge(
                job_id="j",
                step=0,
                attempt=0,
                context=context,
                mechanism=mechanism,
                budget=Budget(epsilon=epsilon, delta=DELTA),
                job_budget=None,
            )
        except AlreadyAnswered:
            assert known
        except BudgetExhausted:
            assert not known
            assert not fits
        else:
            assert not known
            assert fits
            self.largest_budget = max(self.largest_budget, epsilon)
            assert self.ledger.spent()[-1] == mechanism

    @rule(contexts=st.lists(CONTEXTS, max_size=3))
    def answer(self, contexts: list[bytes]) -> None:
        known = {entry.context for entry in self.seen if entry.kind == "answer"}
        twice = len(set(contexts)) < len(contexts)
        try:
            self.ledger.answer_once(contexts)
        except AlreadyAnswered:
            assert twice or known & set(contexts)
            assert self.ledger.entries() == self.seen
        else:
            assert not twice
            assert not known & set(contexts)
            assert [entry.context for entry in self.ledger.entries()[len(self.seen) :]] == contexts

    @rule()
    def reopen(self) -> None:
        self.ledger = Ledger.open(self.ledger.path, clock=lambda: 0.0)

    @rule(
        statement=st.sampled_from(["DELETE FROM entries", "UPDATE entries SET mechanism = ''", "DELETE FROM identity"])
    )
    def try_to_change_it(self, statement: str) -> None:
        connection = sqlite3.connect(self.ledger.path)
        try:
            connection.execute(statement)
            connection.commit()
        except sqlite3.IntegrityError:
            pass
        finally:
            connection.close()

    @invariant()
    def it_only_grew(self) -> None:
        now = self.ledger.entries()
        assert now[: len(self.seen)] == self.seen
        spent = self.ledger.spent_epsilon(DELTA)
        assert spent >= self.highest
        assert spent <= self.largest_budget
        self.seen, self.highest = now, spent

    def teardown(self) -> None:
        self.folder.cleanup()


TestLedgerNeverFalls = LedgerNeverFalls.TestCase
TestLedgerNeverFalls.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
