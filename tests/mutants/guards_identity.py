"""Guards of who is who: the list of parties, its issuer and epochs, certificates of keys, requests and revocation."""

from tests.mutants.record import Edit, Mutant

_ROSTER = "shared/roster.py"
_REGISTER = "client/issuing/register.py"
_LEDGER = "client/ledger.py"
_ROSTERS = "tests/unit/test_roster.py"
_REQUESTS = "tests/unit/test_enrolment.py"
_EPOCHS = "tests/unit/test_client_epochs.py"
_ANSWERS = "tests/unit/test_federation_answer.py"

IDENTITY: tuple[Mutant, ...] = (
    Mutant(
        name="identity: expired member",
        adversary="Whoever finds an old key contributes or helps with it.",
        path=_ROSTER,
        old="        if not member.not_before <= now <= member.not_after:\n",
        new="        if False:\n",
        tests=("tests/unit/test_secagg_attacks.py::test_a_client_or_helper_outside_its_validity_is_refused",),
    ),
    Mutant(
        name="identity: expired list",
        adversary="The server goes on with a list whose time is over.",
        path=_ROSTER,
        old="    if not roster.issued_at <= now < roster.expires_at:\n",
        new="    if False:\n",
        tests=(f"{_ROSTERS}::test_a_roster_is_valid_from_its_issue_to_before_its_expiry",),
    ),
    Mutant(
        name="identity: role",
        adversary="A helper contributes as a tenant, or a tenant holds masks as a helper.",
        path=_ROSTER,
        old="        if role not in member.roles:\n",
        new="        if False:\n",
        tests=("tests/unit/test_secagg_attacks.py::test_a_helper_cannot_pose_as_a_tenant_nor_a_tenant_as_a_helper",),
    ),
    Mutant(
        name="identity: issuer pin",
        adversary="The server signs a list of its own parties.",
        path=_ROSTER,
        old=".verify(signature, _LABEL + body)\n",
        new="\n",
        tests=(f"{_ROSTERS}::test_a_roster_of_another_issuer_is_refused",),
    ),
    Mutant(
        name="identity: one party as two",
        adversary="One party is listed twice under one key and counts as two.",
        path=_ROSTER,
        old="            if len(set(values)) != len(values):\n",
        new="            if False:\n",
        tests=(f"{_ROSTERS}::test_one_party_cannot_be_listed_as_two",),
    ),
    Mutant(
        name="identity: own key on the list",
        adversary="A list shows another key in this party's place, and it takes part under it.",
        path="client/answer.py",
        old="    if roster.member_as(home.name, role, now).signing_key != home.vault.signing_public:\n",
        new="    if not roster.member_as(home.name, role, now):\n",
        tests=(f"{_ANSWERS}::test_a_roster_that_lists_another_key_for_this_party_is_refused",),
    ),
    # A list that was accepted once has a row of its own, which the table's constraint keeps single.
    Mutant(
        name="identity: older epoch",
        adversary="The server brings back a list from before a party was revoked.",
        path=_LEDGER,
        old="            if newest is not None and newest.step > epoch:\n",
        new="            if False:\n",
        also=(Edit(path=_LEDGER, old=" NOT NULL, UNIQUE (kind, job_id, context))", new=" NOT NULL)"),),
        tests=(f"{_EPOCHS}::test_an_older_list_is_refused_even_one_that_was_accepted_in_its_time",),
    ),
    Mutant(
        name="identity: two lists of one epoch",
        adversary="The issuer shows two lists under one epoch.",
        path=_LEDGER,
        old="            if newest is not None and newest.step == epoch:\n",
        new="            if newest is not None and newest.step == epoch and newest.context == digest:\n",
        tests=(f"{_EPOCHS}::test_another_list_of_the_same_epoch_is_refused",),
    ),
    Mutant(
        name="identity: list remembered before an answer",
        adversary="A revoked party's thief is answered, because the newer list was used and never noted.",
        path="client/answer.py",
        old="    accept_roster(home, roster, request.roster)\n",
        new="",
        tests=("tests/integration/test_stolen_keys.py::test_a_stolen_tenant_key",),
    ),
    Mutant(
        name="identity: replaced keys are erased",
        adversary="Whoever breaks into helpers later opens what the server recorded before.",
        path="client/answer.py",
        old="    erase_replaced_keys(home, roster, now)\n",
        new="",
        tests=(
            "tests/integration/test_stolen_keys.py"
            "::test_what_was_recorded_before_a_rotation_stays_closed_when_every_helper_is_broken_into_after_it",
        ),
    ),
    Mutant(
        name="identity: revoked",
        adversary="A revoked party stays on the next list.",
        path=_REGISTER,
        old="    gone = register.find(name)\n"
        "    members = tuple(member for member in register.members if member.name != name)\n",
        new="    gone = register.find(name)\n    members = register.members\n",
        tests=(f"{_REQUESTS}::test_a_revoked_party_is_gone_and_its_keys_never_come_back",),
    ),
    Mutant(
        name="identity: key that comes back",
        adversary="A thief asks the issuer to list a stolen key that was taken off.",
        path=_REGISTER,
        old="        if key in register.retired:\n",
        new="        if False:\n",
        tests=(f"{_REQUESTS}::test_a_revoked_party_is_gone_and_its_keys_never_come_back",),
    ),
    Mutant(
        name="identity: name taken over",
        adversary="Somebody asks to be listed under another's name with a key of their own.",
        path=_REGISTER,
        old="    if known is not None and known.signing_key != request.signing_key:\n",
        new="    if False:\n",
        tests=(f"{_REQUESTS}::test_a_name_is_not_taken_over_by_another_signing_key",),
    ),
    Mutant(
        name="identity: key of another party",
        adversary="Somebody asks to be listed with another party's key and counts as that party too.",
        path=_REGISTER,
        old="            if other.name != fresh.name and key in other.keys:\n",
        new="            if False:\n",
        tests=(f"{_REQUESTS}::test_a_key_of_another_party_is_refused",),
    ),
    Mutant(
        name="identity: one form of a node key",
        adversary="A thief has a node key that was taken off listed again by adding a comment, or shares another's.",
        path="shared/node_key.py",
        old="    if canonical_node_key(text) != text:\n",
        new="    if canonical_node_key(text) == '':\n",
        tests=(f"{_REQUESTS}::test_a_node_key_is_taken_in_its_one_form_only",),
    ),
    Mutant(
        name="identity: one form of a retired node key",
        adversary="A thief has a node key listed again that was retired with a comment behind it.",
        path=_REGISTER,
        old="    return canonical_node_key(text)\n",
        new="    return str(text)\n",
        tests=(f"{_REQUESTS}::test_a_register_that_holds_a_node_key_in_another_form_knows_it_again",),
    ),
    Mutant(
        name="documents: each key once",
        adversary="Somebody has two readers see two contents under one signature, the first and the last of a key.",
        path="shared/canonical.py",
        old="    if len(found) != len(pairs):\n",
        new="    if False:\n",
        tests=("tests/unit/test_strict_json.py::test_a_signed_document_with_a_key_twice_is_refused",),
    ),
    Mutant(
        name="documents: one form of a number",
        adversary="The server sends two frames with one content: 1 and 1.0 for a real number, under one digest.",
        path="shared/plan.py",
        old="        if wanted is float and (type(value) is not float or not -inf < value < inf):\n",
        new="        if wanted is float and not -inf < value < inf:\n",
        tests=("tests/unit/test_plan.py::test_a_number_has_one_form_in_a_plan_from_a_peer",),
    ),
    Mutant(
        name="identity: proof of possession",
        adversary="Somebody asks to be listed with a public key whose private half they do not hold.",
        path="shared/enrolment.py",
        old='    verify_document(KIND, fields, signature, request.signing_key, "the key that it asks to be listed")\n',
        new="",
        tests=(f"{_REQUESTS}::test_a_request_that_cannot_be_accepted_is_refused_in_one_line",),
    ),
    Mutant(
        name="identity: certificate of a sealing key",
        adversary="The issuer lists a sealing key of its own for a helper, and reads that helper's seeds.",
        path="shared/sealing_certificate.py",
        old=".verify(\n                bytes.fromhex(self.signature), message\n            )\n",
        new="\n            _ = message\n",
        tests=(f"{_ROSTERS}::test_a_sealing_key_that_the_helper_did_not_certify_for_now_is_refused",),
    ),
    Mutant(
        name="identity: pin of a helper",
        adversary="Server and issuer list a helper with a signing key of theirs, and certify with that.",
        path=_ROSTER,
        old="        return member.sealing.opened(helper, pinned, now)\n",
        new="        return member.sealing.opened(helper, member.signing_key, now)\n",
        tests=(f"{_ROSTERS}::test_a_sealing_key_under_a_signing_key_that_the_issuer_swapped_is_refused_by_the_pin",),
    ),
)
