"""Guards of a sum with helpers (topology H): what a helper answers, what a client signs and seals, capacity, seeds."""

from tests.mutants.record import Edit, Mutant

_H = "shared/secagg/topology_h.py"
_ANSWER = "client/answer.py"
_LEDGER = "client/ledger.py"
_ATTACKS = "tests/unit/test_secagg_attacks.py"
_SHARING = "tests/unit/test_secagg_mask_sharing.py"
_ANSWERS = "tests/unit/test_federation_answer.py"
_LEDGERS = "tests/unit/test_client_ledger.py"

WITH_HELPERS: tuple[Mutant, ...] = (
    Mutant(
        name="helper: batch of one",
        adversary="The server asks a helper for the masks of one contribution alone.",
        path=_H,
        old="    if len(headers) < max(2, min_contributions):\n",
        new="    if len(headers) < min_contributions:\n",
        tests=(f"{_ATTACKS}::test_a_batch_below_the_minimum_is_refused_and_one_is_always_below",),
    ),
    Mutant(
        name="helper: its own minimum",
        adversary="The server asks a helper about fewer contributions than its policy allows.",
        path=_H,
        old="    if len(headers) < max(2, min_contributions):\n",
        new="    if len(headers) < 2:\n",
        tests=(f"{_ATTACKS}::test_a_batch_below_the_minimum_is_refused_and_one_is_always_below",),
    ),
    Mutant(
        name="helper: client twice in a cohort",
        adversary="The server repeats one contribution until the cohort is large enough.",
        path=_H,
        old="    if twice:\n",
        new="    if False:\n",
        tests=(f"{_ATTACKS}::test_a_client_counted_twice_is_refused",),
    ),
    # The signature refuses it, and the name in the seal's associated data does so alone.
    Mutant(
        name="helper: upload under another client",
        adversary="The server sends one client's upload under the names of others, and their sum is one client's.",
        path=_H,
        old="    member.verify(header.signature, message)\n",
        new="",
        also=(
            Edit(
                path=_H,
                old="    return join_fields(_SEAL, ctx, client.encode(), slot.encode(), helper.encode())\n",
                new="    return join_fields(_SEAL, ctx, slot.encode(), helper.encode())\n",
            ),
        ),
        tests=(f"{_ATTACKS}::test_an_upload_replayed_under_another_client_is_refused",),
    ),
    Mutant(
        name="helper: seal in a thief's upload",
        adversary="A client puts another's seal into its own upload and signs that.",
        path=_H,
        old="    return join_fields(_SEAL, ctx, client.encode(), slot.encode(), helper.encode())\n",
        new="    return join_fields(_SEAL, ctx, slot.encode(), helper.encode())\n",
        tests=(f"{_ATTACKS}::test_a_seal_moved_into_an_upload_that_its_thief_signs_does_not_open",),
    ),
    Mutant(
        name="helper: seal in another slot",
        adversary="A client seals one seed in two slots, whose masks then cancel or repeat.",
        path=_H,
        old="    return join_fields(_SEAL, ctx, client.encode(), slot.encode(), helper.encode())\n",
        new="    return join_fields(_SEAL, ctx, client.encode(), helper.encode())\n",
        tests=(f"{_SHARING}::test_a_seal_moved_to_another_slot_or_holder_by_its_client_does_not_open",),
    ),
    Mutant(
        name="helper: associated data of a seal",
        adversary="The server has a seal of one round opened in another.",
        path="shared/secagg/sealing.py",
        old="    return ephemeral_public + cipher.encrypt(_NONCE, secret, associated)\n",
        new="    return ephemeral_public + cipher.encrypt(_NONCE, secret, None)\n",
        also=(
            Edit(
                path="shared/secagg/sealing.py",
                old="        return cipher.decrypt(_NONCE, ciphertext, associated)\n",
                new="        return cipher.decrypt(_NONCE, ciphertext, None)\n",
            ),
        ),
        tests=(f"{_ATTACKS}::test_no_byte_of_a_seal_its_key_or_its_associated_data_can_differ",),
    ),
    Mutant(
        name="helper: asked twice",
        adversary="The server asks a helper about two cohorts in one context and subtracts the answers.",
        path=_ANSWER,
        old="    home.ledger.answer_once(slot_contexts(ctx, request.slots))\n",
        new="",
        tests=(f"{_ANSWERS}::test_a_helper_answers_one_context_once_even_after_a_restart",),
    ),
    # The table's own constraint refuses a second row as well.
    Mutant(
        name="helper: asked twice, ledger",
        adversary="The server asks a helper again after its restart.",
        path=_LEDGER,
        old='                if any(entry.context == context and entry.kind == "answer" for entry in entries):\n',
        new="                if False:\n",
        also=(Edit(path=_LEDGER, old=" NOT NULL, UNIQUE (kind, job_id, context))", new=" NOT NULL)"),),
        tests=(f"{_LEDGERS}::test_a_helper_answers_a_context_once_even_after_a_restart",),
    ),
    Mutant(
        name="helper: one slot twice in a question",
        adversary="The server has a helper add one mask twice.",
        path=_H,
        old="    if not slots or list(slots) != sorted(set(slots)) or not set(slots) <=",
        new="    if not slots or not set(slots) <=",
        tests=(f"{_SHARING}::test_a_helper_answers_for_its_own_masks_each_once_in_order_and_for_nothing_else",),
    ),
    Mutant(
        name="helper: slots that are not its own",
        adversary="A helper answers for the masks of another one, whose noise is then missing.",
        path=_H,
        old="        if not set(answer.slots) <= set(sharing.held_by(answer.helper)):\n",
        new="        if False:\n",
        tests=(f"{_SHARING}::test_an_answer_for_slots_that_are_not_the_signers_is_refused_though_its_signature_holds",),
    ),
    Mutant(
        name="helper: slots that were not asked for",
        adversary="A helper answers for other masks than the server asked it about.",
        path=_H,
        old="    if answer.slots != slots:\n",
        new="    if False:\n",
        tests=(f"{_SHARING}::test_the_server_takes_an_answer_for_exactly_the_slots_that_it_asked_for",),
    ),
    Mutant(
        name="helper: another cohort",
        adversary="Helpers sum different sets, and the opened sum is noise that looks like a model.",
        path=_H,
        old="    if answer.cohort != cohort:\n",
        new="    if False:\n",
        tests=(f"{_ATTACKS}::test_helpers_that_summed_different_sets_are_found_out",),
    ),
    Mutant(
        name="helper: one answer for every slot",
        adversary="A sum is opened with one helper's masks missing or counted twice.",
        path=_H,
        old="    if answered != list(sharing.slots):\n",
        new="    if False:\n",
        tests=(f"{_ATTACKS}::test_a_sum_opens_only_with_one_answer_of_every_helper",),
    ),
    Mutant(
        name="helper: answer's signature",
        adversary="The network changes a helper's answer on its way.",
        path=_H,
        old="    member.verify(answer.signature, _answer_message(",
        new="    _ = (answer.signature, _answer_message(",
        tests=(f"{_ATTACKS}::test_a_tampered_answer_is_refused",),
    ),
    Mutant(
        name="client: header changed",
        adversary="The server raises what clients declared, and a helper takes a few users for many.",
        path=_H,
        old="    member.verify(header.signature, message)\n",
        new="",
        tests=(f"{_ATTACKS}::test_a_cohort_inflated_by_changing_what_a_client_declared_is_refused",),
    ),
    Mutant(
        name="client: vector under its signature",
        adversary="The network puts another vector under a client's signature.",
        path=_H,
        old="    return join_fields(_CONTRIBUTION, ctx, client.encode(), users, masked_digest, *parts)\n",
        new="    return join_fields(_CONTRIBUTION, ctx, client.encode(), users, *parts)\n",
        tests=(f"{_ATTACKS}::test_no_byte_of_a_contribution_can_be_flipped",),
    ),
    # Named in the message and part of what is signed: either refuses it.
    Mutant(
        name="client: wrong context",
        adversary="The server replays an upload of another round, roster or width.",
        path=_H,
        old="    if contribution.ctx != ctx:\n",
        new="    if False:\n",
        also=(
            Edit(
                path=_H,
                old="    return join_fields(_CONTRIBUTION, ctx, client.encode(), users, masked_digest, *parts)\n",
                new="    return join_fields(_CONTRIBUTION, client.encode(), users, masked_digest, *parts)\n",
            ),
        ),
        tests=(f"{_ATTACKS}::test_an_upload_replayed_in_another_context_is_refused_by_server_and_helper",),
    ),
    Mutant(
        name="client: attempt in the context",
        adversary="The server asks for a second attempt and combines both answers of a helper.",
        path="shared/secagg/context.py",
        old="for number in (step, attempt, num_coordinates, bits))",
        new="for number in (step, 0, num_coordinates, bits))",
        tests=(f"{_ATTACKS}::test_every_field_of_a_context_counts",),
    ),
    Mutant(
        name="client: one key under two helpers",
        adversary="The server names one accomplice as two helpers, who then holds every mask.",
        path=_H,
        old=" or len(set(helper_keys.values())) != len(helper_keys):\n",
        new=":\n",
        tests=(f"{_ATTACKS}::test_one_key_under_two_helper_names_is_refused_by_the_client",),
    ),
    Mutant(
        name="helper: its complaint's signature",
        adversary="The server accuses a client in a helper's name.",
        path="shared/secagg/complaint.py",
        old="    member.verify(complaint.signature, _message(ctx, complaint.helper, complaint.client))\n",
        new="",
        tests=(f"{_ATTACKS}::test_a_complaint_holds_for_its_helper_its_client_and_its_context_alone",),
    ),
    Mutant(
        name="cohorts: set of two",
        adversary="The server mixes members of two cohorts and subtracts the sums that it has of each.",
        path="shared/secagg/cohorts.py",
        old="            if self.of(name) != first:\n",
        new="            if False:\n",
        tests=("tests/unit/test_secagg_cohorts.py::test_a_set_of_two_cohorts_has_no_cohort_and_a_stranger_is_in_none",),
    ),
    Mutant(
        name="cohorts: a client in two",
        adversary="A client signs for every cohort, and the server puts it where it likes.",
        path=_ANSWER,
        old="    ctx = cohorts.contexts[cohorts.of_all(header.client for header in request.headers)]\n",
        new="    ctx = cohorts.contexts[cohorts.of(request.headers[0].client)]\n",
        tests=(
            "tests/integration/test_federation_cohorts.py"
            "::test_a_helper_does_not_sum_a_client_that_signed_for_two_cohorts_in_the_second_one",
        ),
    ),
    Mutant(
        name="capacity: value outside the ring",
        adversary="A value wraps round before it is masked, and the sum is another one.",
        path="shared/secagg/ring.py",
        old="    if len(values) and not -half <= int(values.min()) <= int(values.max()) < half:\n",
        new="    if False:\n",
        tests=(f"{_ATTACKS}::test_values_that_leave_the_ring_are_refused_before_they_are_masked",),
    ),
    Mutant(
        name="capacity: sum that could wrap",
        adversary="A plan sums more than its ring holds, and large counts become negative ones.",
        path="shared/secagg/fixed_point.py",
        old="        if need <= room:\n",
        new="        if True:\n",
        tests=("tests/property/test_secagg_fixed_point.py::test_a_ring_that_is_too_small_is_refused_with_the_numbers",),
    ),
    Mutant(
        name="capacity: users of a cohort",
        adversary="Tenants declare more users than the plan's sum holds, and it wraps round.",
        path="server/rounds.py",
        old="    if state.num_users + offer.declared_users > state.rules.max_users:\n",
        new="    if False:\n",
        tests=("tests/unit/test_federation_rounds.py::test_a_contribution_that_the_sum_cannot_hold_is_refused",),
    ),
    Mutant(
        name="capacity: users of one tenant",
        adversary="One tenant declares so many users that the sum has no room for others.",
        path="server/rounds.py",
        old="    if offer.declared_users > most:\n",
        new="    if False:\n",
        tests=(
            "tests/unit/test_federation_rounds.py::test_a_tenant_above_its_limit_is_not_counted_and_takes_nobodys_place",
        ),
    ),
    Mutant(
        name="secrets: a seed is pickled",
        adversary="A framework that stores objects between messages writes a mask seed to its disk.",
        path="shared/secagg/prg.py",
        old='        raise TypeError("a mask seed must not be pickled or copied")\n',
        new="        return (MaskSeed, (self._secret,))\n",
        tests=(f"{_ATTACKS}::test_a_mask_seed_shows_itself_to_no_repr_format_pickle_or_copy",),
    ),
    Mutant(
        name="secrets: a seed is shown",
        adversary="A log line or a traceback holds a mask seed.",
        path="shared/secagg/prg.py",
        old='        return "MaskSeed(<hidden>)"\n',
        new='        return f"MaskSeed({self._secret!r})"\n',
        tests=(f"{_ATTACKS}::test_a_mask_seed_shows_itself_to_no_repr_format_pickle_or_copy",),
    ),
    Mutant(
        name="secrets: state of a round",
        adversary="A framework writes the secrets of a pairwise round to its disk.",
        path="shared/secagg/secret.py",
        old='        raise TypeError("a secret must not be pickled or copied")\n',
        new="        return (Secret, (self._secret,))\n",
        tests=("tests/unit/test_pairwise_attacks.py::test_a_state_shows_no_secret_and_is_not_pickled_or_copied",),
    ),
)
