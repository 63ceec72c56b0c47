"""Guards of one client: its policy field by field, the ledger, what it may run, when it answers, what it says."""

from tests.mutants.record import Edit, Mutant

_POLICY = "client/policy.py"
_LEDGER = "client/ledger.py"
_ANSWER = "client/answer.py"
_FLOWER = "client/flower_internals.py"
_POLICIES = "tests/unit/test_client_policy.py"
_LEDGERS = "tests/unit/test_client_ledger.py"
_ANSWERS = "tests/unit/test_federation_answer.py"
_PINS = "tests/unit/test_deployment_pin.py"
_BEYOND = f"{_POLICIES}::test_a_plan_beyond_the_policy_is_refused_naming_the_field"


def _field(name: str, adversary: str, line: str) -> Mutant:
    """A comparison of plan and policy that is left out."""
    return Mutant(name=f"policy: {name}", adversary=adversary, path=_POLICY, old=line, new="", tests=(_BEYOND,))


CLIENT: tuple[Mutant, ...] = (
    Mutant(
        name="client: clock set back",
        adversary="Who sets a client's clock back has a list accepted again that had expired, revoked parties and all.",
        path=_LEDGER,
        old="        if newest is not None and now < newest - CLOCK_SLACK_SECONDS:\n",
        new="        if False:\n",
        tests=("tests/unit/test_client_clock.py::test_a_clock_set_back_revives_no_list_that_had_expired",),
    ),
    _field(
        "noise",
        "The server asks for sums without noise.",
        '    yield _one_of("noise", plan.noise, policy.allowed_noise)\n',
    ),
    _field(
        "epsilon",
        "The server asks for one job that costs more than the partner allows a job.",
        '    yield _at_most("epsilon", plan.epsilon, allowed)\n',
    ),
    _field(
        "epsilon as stated",
        "The server states a smaller epsilon than its noise gives.",
        '    yield Demand("epsilon", f"stated as {plan.epsilon:g}", '
        'f"{derived:.6g} or more, which its noise amounts to", honest)\n',
    ),
    _field(
        "users behind a sum",
        "The server sums over few users.",
        '    yield _at_least("min_users", plan.min_users, policy.min_users)\n',
    ),
    _field(
        "clip",
        "The server asks for a clip so large that no noise covers it.",
        '        yield _at_most("max_grad_norm", recipe.max_grad_norm, policy.max_grad_norm)\n',
    ),
    _field(
        "catalogue",
        "The server uses a catalogue in which one item stands for another.",
        '    yield Demand("catalogue_digest", f"{digest[:12]}…", f"{catalogue.digest[:12]}…", '
        "digest == catalogue.digest)\n",
    ),
    _field(
        "spare helpers",
        "The server lets so many helpers be absent that one of them opens a contribution.",
        '        yield _at_most("spare_helpers", plan.spare_helpers, max(0, len(plan.helpers) - policy.min_helpers))\n',
    ),
    _field(
        "threshold",
        "The server asks for a pairwise plan whose secrets its accomplices can open.",
        '    yield _at_least("threshold", plan.threshold, threshold)\n',
    ),
    Mutant(
        name="policy: pinned helper",
        adversary="The roster lists another key for a helper than the partner compared in person.",
        path=_POLICY,
        old='            yield Demand("helpers", f"{name} with another signing key", '
        'f"{name} with the pinned key", same)\n',
        new="            _ = same\n",
        tests=(f"{_POLICIES}::test_a_helper_whose_listed_signing_key_is_not_the_pinned_one_is_refused",),
    ),
    Mutant(
        name="policy: the whole of it",
        adversary="The server sends any plan at all.",
        path=_ANSWER,
        old="    check_plan(home.policy, plan, roster, home.catalogue)\n",
        new="",
        tests=(f"{_ANSWERS}::test_a_plan_outside_the_policy_is_refused_and_costs_nothing[changes3-PolicyViolation]",),
    ),
    Mutant(
        name="policy: what it serves as",
        adversary="The server asks an auditor, who only helps, for contributions.",
        path=_ANSWER,
        old="    if role not in home.policy.serve_as:\n",
        new="    if False:\n",
        tests=("tests/unit/test_helper_only.py::test_a_party_that_serves_as_a_tenant_only_does_not_help",),
    ),
    Mutant(
        name="charge: before a history is looked at",
        adversary="The server learns from a failure over histories, again and again, and nothing is charged.",
        path=_ANSWER,
        old="    # Before a history is looked at: what fails over one",
        new="    _values(home, plan, step, dict(inputs), bytes(32))\n    # What fails over one",
        tests=("tests/integration/test_pairwise_answers.py::test_the_charge_is_on_disk_before_a_history_is_looked_at",),
    ),
    Mutant(
        name="charge: budget",
        adversary="The server runs jobs until the noise averages out.",
        path=_LEDGER,
        old="            _require_room(budget, entries, (mechanism,))\n",
        new="",
        tests=(f"{_LEDGERS}::test_the_budget_is_never_passed_whatever_is_asked",),
    ),
    Mutant(
        name="charge: budget of one job",
        adversary="The server repeats the attempts of one job without end.",
        path=_LEDGER,
        old="            _require_job_room(job_budget, job_id, entries, (mechanism,))\n",
        new="",
        tests=(f"{_LEDGERS}::test_repeated_attempts_of_one_job_never_cost_more_than_one_job_may",),
    ),
    # The table's own constraint refuses a second row as well.
    Mutant(
        name="charge: one release a context",
        adversary="The server has one step answered twice, paid for once.",
        path=_LEDGER,
        old='            if any(entry.context == context and entry.kind == "release" for entry in entries):\n',
        new="            if False:\n",
        also=(Edit(path=_LEDGER, old=" NOT NULL, UNIQUE (kind, job_id, context))", new=" NOT NULL)"),),
        tests=(f"{_LEDGERS}::test_a_context_is_charged_once_even_after_a_restart",),
    ),
    Mutant(
        name="ledger: hash chain",
        adversary="Somebody with the file takes entries out or changes them.",
        path=_LEDGER,
        old="            if row[0] != len(chain) or _chained(chain[-1], row[:-1]) != row[-1]:\n",
        new="            if False:\n",
        tests=(f"{_LEDGERS}::test_a_change_behind_its_back_is_noticed_at_the_next_use",),
    ),
    Mutant(
        name="ledger: marks",
        adversary="An older copy of the ledger is put back, and the releases since are forgotten.",
        path=_LEDGER,
        old="        if sequence >= len(chain) or chain[sequence] != digest:\n",
        new="        if False:\n",
        tests=(f"{_LEDGERS}::test_an_older_copy_put_back_is_noticed",),
    ),
    Mutant(
        name="ledger: triggers",
        adversary="A program with the file open deletes a row.",
        path=_LEDGER,
        old="            for statement in _TRIGGERS:\n                connection.execute(statement)\n",
        new="",
        tests=(f"{_LEDGERS}::test_the_database_itself_refuses_every_change",),
    ),
    Mutant(
        name="bundle: allow-list",
        adversary="The server sends other code than the partner reviewed.",
        path=_FLOWER,
        old="    if digest not in allowed_digests:\n",
        new="    if False:\n",
        tests=(f"{_PINS}::test_a_bundle_that_is_not_on_the_list_is_refused",),
    ),
    Mutant(
        name="bundle: its own digest",
        adversary="The server sends other code and claims a digest that is on the list.",
        path=_FLOWER,
        old="    digest = hashlib.sha256(fab.content).hexdigest()\n    if digest not in",
        new="    digest = fab.hash_str\n    if digest not in",
        tests=(f"{_PINS}::test_a_changed_byte_is_refused_whatever_digest_the_server_claims",),
    ),
    Mutant(
        name="bundle: app of the run",
        adversary="The server has a listed bundle unpacked and another folder run.",
        path=_FLOWER,
        old="    if (run.fab_id, run.fab_version) != "
        "config.get_metadata_from_config(config.get_fab_config(fab.content)):\n",
        new="    if not config:\n",
        tests=(f"{_PINS}::test_a_run_that_names_another_app_version_or_path_is_refused",),
    ),
    Mutant(
        name="bundle: imported ahead",
        adversary="The server has a run of one listed bundle answered with the code of another.",
        path="client/warm_bundle.py",
        old=" or hashlib.sha256(content).hexdigest() != self.digest:\n",
        new=":\n",
        tests=("tests/unit/test_warm_bundle.py::test_a_fork_that_is_brought_another_bundle_imports_that_one",),
    ),
    Mutant(
        name="release time: waiting",
        adversary="Whoever sees answers leave estimates how many interactions a client holds.",
        path="client/release_time.py",
        old="        _wait(came_in, period, timer)\n",
        new="        pass\n",
        tests=(
            "tests/unit/test_client_release_time.py"
            "::test_a_contribution_leaves_at_the_same_time_however_long_the_sum_took",
        ),
    ),
    Mutant(
        name="release time: server's patience",
        adversary="The server stops waiting early and learns from what did not come.",
        path="client/release_time.py",
        old="        if waits_seconds < _WAITS_FOR * period:\n",
        new="        if False:\n",
        tests=(
            "tests/unit/test_client_release_time.py"
            "::test_a_server_that_waits_too_short_is_refused_before_anything_is_charged",
        ),
    ),
    Mutant(
        name="capacity: declared users of the store",
        adversary="A store holds more users than it declares, and the sum more than its ring was chosen for.",
        path=_ANSWER,
        old="        if history.num_users > declared:\n",
        new="        if False:\n",
        tests=(f"{_ANSWERS}::test_more_users_than_declared_are_refused_without_a_word_about_them",),
    ),
    Mutant(
        name="capacity: sum of declared users",
        adversary="Arithmetic goes wrong on this machine, and what is masked is more than any users can give.",
        path="client/contribution.py",
        old="    if not length <= most * (1 + 2.0**-20):\n",
        new="    if False:\n",
        tests=(
            "tests/unit/test_federation_contribution.py::test_what_declared_users_can_sum_to_is_in_range_and_nothing_longer",
        ),
    ),
    Mutant(
        name="refusal: without a word",
        adversary="The server reads in a refusal what went wrong over the histories.",
        path=_ANSWER,
        old="    if isinstance(error, _SPOKEN):\n",
        new="    if isinstance(error, _SPOKEN) or True:\n",
        tests=(f"{_ANSWERS}::test_more_users_than_declared_are_refused_without_a_word_about_them",),
    ),
    Mutant(
        name="inputs: range of item factors",
        adversary="The server chooses item factors with which the local solve overflows for some users only.",
        path="client/contribution.py",
        old="        if not np.all(np.abs(factors) <= MAX_ITEM_FACTOR):\n",
        new="        if False:\n",
        tests=("tests/unit/test_federation_contribution.py::test_inputs_that_no_honest_server_sends_are_refused",),
    ),
    Mutant(
        name="home: modes of key files",
        adversary="Another user of the machine reads a key file.",
        path="client/durable_files.py",
        old="    if others_may_read(path):\n",
        new="    if False:\n",
        tests=("tests/unit/test_client_home.py::test_a_key_that_others_may_read_is_refused_with_the_mend",),
    ),
)
