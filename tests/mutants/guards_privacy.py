"""Guards of what a release may tell: noise, clip, masks, rounding, accounting; what a sum is held against; parsers."""

from tests.mutants.record import Edit, Mutant

_GAUSSIAN = "shared/secagg/discrete_gaussian.py"
_SKELLAM = "shared/secagg/skellam.py"
_H = "shared/secagg/topology_h.py"
_PLAN = "shared/plan.py"
_ROUNDING = "shared/secagg/fixed_point.py"
_ROBUST = "shared/robust_sum.py"
_FRAME = "shared/frame.py"
_FIELDS = "shared/wire_fields.py"
_AUDIT = "tests/property/test_privacy_audit.py"
_SHARED_AUDIT = "tests/property/test_privacy_audit_shared.py"
_SENSITIVITY = "tests/property/test_sensitivity.py"
_MASKED = "    masked = mask_packed(values, bits, subtracted=keys, watch=hasher.update)\n"
_MASKS = "tests/unit/test_secagg_mask_statistics.py"
_SUMS = "tests/unit/test_robust_sum.py"
_WIRE = "tests/unit/test_wire.py"

PRIVACY: tuple[Mutant, ...] = (
    Mutant(
        name="plan: least clip of a gradient",
        adversary="The server asks for a clip so small that a user's term depends on whom it is computed beside.",
        path=_PLAN,
        old="        if self.max_grad_norm < MIN_GRAD_NORM:\n",
        new="        if False:\n",
        tests=("tests/unit/test_plan.py::test_a_clip_of_gradients_below_the_least_is_refused",),
    ),
    Mutant(
        name="accountant: order fixed by the budget",
        adversary="A server that chooses releases after seeing others has the Renyi order chosen last, and the best.",
        path="shared/accounting.py",
        old="    order = renyi_order(budget.epsilon, budget.delta)\n",
        new="    return epsilon(mechanisms, budget.delta)\n    order = 2\n",
        tests=(
            "tests/unit/test_accounting_filter.py::test_the_least_over_all_orders_is_not_what_a_budget_is_held_against",
        ),
    ),
    Mutant(
        name="noise: half of the discrete Gaussian",
        adversary="Helpers add half the noise that the plan states.",
        path=_GAUSSIAN,
        old="    return sample_from(noise_std, size, lambda count:",
        new="    return sample_from(max(1, noise_std // 2), size, lambda count:",
        tests=(f"{_AUDIT}::test_an_attack_on_the_real_release_stays_below_the_statement[popularity]",),
    ),
    Mutant(
        name="noise: half of the Skellam variance",
        adversary="Tenants add half the noise that the plan states.",
        path=_SKELLAM,
        old="    return sample_from(variance, size, lambda count:",
        new="    return sample_from(variance // 4 * 2, size, lambda count:",
        tests=(f"{_SHARED_AUDIT}::test_an_attack_on_shared_noise_stays_below_the_statement[popularity]",),
    ),
    Mutant(
        name="noise: honest part",
        adversary="The statement counts the parts of tenants that work with the server.",
        path=_PLAN,
        old="        return Skellam(variance=share * plan.min_honest,",
        new="        return Skellam(variance=share * plan.min_tenants,",
        tests=(f"{_SHARED_AUDIT}::test_an_attack_on_shared_noise_stays_below_the_statement[popularity]",),
    ),
    Mutant(
        name="noise: two answers of one mask",
        adversary="Two holders of one mask are asked about two cohorts, and one release is accounted.",
        path=_PLAN,
        old='        return self.spare_helpers + 1 if self.noise == "helpers" else 1\n',
        new="        return 1\n",
        tests=(
            "tests/property/test_secagg_two_cohorts.py::test_both_sums_together_stay_below_what_the_plan_states[popularity]",
        ),
    ),
    # Rounding refuses a user that was not clipped, so that has to go as well; here, and for pairs.
    Mutant(
        name="clip: popularity",
        adversary="One user with heavy weights moves the counts by more than the noise covers.",
        path="shared/recipes/cooccurrence.py",
        old="    return clip_users(weights, 1.0)\n",
        new="    return weights\n",
        also=(Edit(path=_ROUNDING, old="    _require_clipped(vectors, clip, num_touched)\n", new=""),),
        tests=(f"{_AUDIT}::test_an_attack_on_the_real_release_stays_below_the_statement[popularity]",),
    ),
    Mutant(
        name="clip: pairs",
        adversary="One user with a long history moves the pairs by more than the noise covers.",
        path="shared/recipes/cooccurrence.py",
        old="    return scale[lengths]\n",
        new="    return np.sign(scale)[lengths]\n",
        also=(Edit(path=_ROUNDING, old="    _require_clipped(vectors, clip, num_touched)\n", new=""),),
        tests=(f"{_AUDIT}::test_an_attack_on_the_real_release_stays_below_the_statement[pairs]",),
    ),
    Mutant(
        name="clip: gradient of an institution",
        adversary="One user moves the item factors by more than the noise covers.",
        path="client/opacus_gradient.py",
        old="            max_grad_norm=max_grad_norm * _SCALE,\n",
        new="            max_grad_norm=1e6 * _SCALE,\n",
        tests=(f"{_AUDIT}::test_an_attack_on_the_real_release_stays_below_the_statement[gradient]",),
    ),
    # The closed form counts a norm that cancels upwards, so either guard bounds this user.
    Mutant(
        name="clip: gradient of a device",
        adversary="The server chooses item factors with which a device's closed form cancels, and its clip fails.",
        path="client/device.py",
        old="    return round_sum(_within(gradient.ravel(), recipe.max_grad_norm), scale=step.scale)\n",
        new="    return round_sum(gradient.ravel(), scale=step.scale)\n",
        also=(
            Edit(
                path="shared/recipes/recon.py",
                old="np.maximum(squared, 0.0) + _NORM_SLACK * magnitude)",
                new="np.maximum(squared, 0.0))",
            ),
        ),
        tests=(f"{_SENSITIVITY}::test_a_server_cannot_choose_item_factors_that_unbind_a_devices_clip",),
    ),
    Mutant(
        name="clip: before rounding",
        adversary="A recipe that forgets its clip is summed all the same.",
        path=_ROUNDING,
        old="    _require_clipped(vectors, clip, num_touched)\n",
        new="",
        tests=(f"{_AUDIT}::test_a_client_that_loses_its_clip_refuses_to_send",),
    ),
    Mutant(
        name="rounding: norm after it",
        adversary="A user whose values all round up moves the sum by more than the sensitivity.",
        path=_ROUNDING,
        old="        if not again.any():\n            break\n",
        new="        break\n",
        tests=(
            "tests/property/test_secagg_fixed_point.py"
            "::test_flat_users_on_the_clip_stay_within_the_sensitivity_even_when_every_draw_goes_up",
        ),
    ),
    Mutant(
        name="rounding: draws for one release",
        adversary="Two releases round with the same draws, and their difference shows who left.",
        path="client/answer.py",
        old='    if plan.noise != "none":\n        return random_bytes(32)\n',
        new='    if plan.noise != "none":\n        return bytes(32)\n',
        tests=("tests/unit/test_federation_answer.py::test_every_answer_rounds_with_draws_of_its_own",),
    ),
    Mutant(
        name="masks: none",
        adversary="A client seals its seeds and forgets to mask; the server reads its touched items.",
        path=_H,
        old=_MASKED,
        new="    masked = mask_packed(values, bits, watch=hasher.update)\n",
        tests=(f"{_MASKS}::test_guessing_the_touched_items_from_a_masked_vector_is_at_chance",),
    ),
    Mutant(
        name="masks: Mersenne Twister",
        adversary="Masks come from a statistical generator with a guessable seed; the server tries the seeds.",
        path=_H,
        old=_MASKED,
        new=(
            "    weak = np.random.RandomState(2**28 - 7).randint(0, 2**bits, len(values), dtype=np.int64)\n"
            "    masked = ring.pack(ring.reduce(values - weak, bits), bits)\n"
            "    hasher.update(masked)\n"
        ),
        tests=(f"{_MASKS}::test_guessing_the_touched_items_from_a_masked_vector_is_at_chance",),
    ),
    Mutant(
        name="masks: seeds used again",
        adversary="Two contributions have one mask, and the server subtracts them.",
        path=_H,
        old="    seeds = {slot: MaskSeed(random_bytes(32)) for slot in sharing.slots}\n",
        new='    seeds = {slot: MaskSeed(slot.encode().ljust(32, b"-")[:32]) for slot in sharing.slots}\n',
        tests=(f"{_MASKS}::test_two_contributions_of_equal_values_share_nothing",),
    ),
    Mutant(
        name="transcript: refusal of an empty history",
        adversary="The server tells from a refusal that a device holds no history.",
        path="client/answer.py",
        old="    except NoInteractions:\n",
        new="    except ZeroDivisionError:\n",
        tests=(
            "tests/integration/test_sim_transcripts.py"
            "::test_whether_a_device_holds_a_history_shows_in_no_kind_order_word_or_size",
        ),
    ),
    Mutant(
        name="transcript: size of a vector",
        adversary="The server tells from the length of a message how much a client holds.",
        path=_H,
        old=_MASKED,
        new=(
            "    masked = mask_packed(values, bits, subtracted=keys)\n"
            "    masked = masked[: 64 + int((values != 0).sum())]\n"
            "    hasher.update(masked)\n"
        ),
        tests=(
            "tests/integration/test_sim_transcripts.py"
            "::test_whether_a_device_holds_a_history_shows_in_no_kind_order_word_or_size",
        ),
    ),
    Mutant(
        name="robust sum: norm",
        adversary="A tenant gives more than its users could, and the model follows it.",
        path=_ROBUST,
        old="    if energy > limit:\n",
        new="    if False:\n",
        tests=(f"{_SUMS}::test_the_norm_is_judged_at_the_declared_users_times_the_clip",),
    ),
    Mutant(
        name="robust sum: coordinates",
        adversary="A tenant pushes one item beyond all users, where the noise of many others hides the norm.",
        path=_ROBUST,
        old="    if low < least - tail or high > most * _FLOAT_SLACK + tail:\n",
        new="    if False:\n",
        tests=(f"{_SUMS}::test_one_coordinate_beyond_all_users_is_seen_where_the_norm_drowns_in_noise",),
    ),
    Mutant(
        name="robust sum: spread",
        adversary="A cohort votes otherwise than all others, within the range of its users.",
        path=_ROBUST,
        old="        drops.update(_far_off(standing, step, max_spread))\n",
        new="        pass\n",
        tests=(f"{_SUMS}::test_a_cohort_that_is_far_from_most_others_is_dropped_and_an_honest_one_never_for_it",),
    ),
    Mutant(
        name="robust sum: trimmed mean",
        adversary="Tenants of one cohort move a coordinate as far as their range allows.",
        path=_ROBUST,
        old="    kept = np.sort(values, axis=0)[trim : len(values) - trim]\n",
        new="    kept = np.sort(values, axis=0)\n",
        tests=(f"{_SUMS}::test_the_trimmed_total_is_the_mean_of_the_middle_means_times_all_users",),
    ),
    Mutant(
        name="wire: limits of lengths",
        adversary="A message promises a header so long that reading it takes the memory.",
        path=_FRAME,
        old="    if size > most:\n",
        new="    if False:\n",
        tests=(f"{_WIRE}::test_sizes_are_limited_on_both_sides",),
    ),
    Mutant(
        name="wire: trailing bytes",
        adversary="Bytes behind a message are carried along unread, past what was signed.",
        path=_FRAME,
        old="        if self._position != len(self._data):\n",
        new="        if False:\n",
        tests=(f"{_WIRE}::test_a_frame_that_is_not_the_one_encoding_is_malformed",),
    ),
    Mutant(
        name="wire: one encoding",
        adversary="One message has two encodings, and a header says one thing to each of two readers.",
        path=_FRAME,
        old="        if not isinstance(header, dict) or canonical_json(header) != raw:\n",
        new="        if not isinstance(header, dict):\n",
        tests=(f"{_WIRE}::test_a_frame_that_is_not_the_one_encoding_is_malformed",),
    ),
    Mutant(
        name="wire: flipped byte",
        adversary="A changed byte gives the same message, so that not all of it is what was sent.",
        path=_FIELDS,
        old='        if not isinstance(value, str) or len(value) != 2 * size or value.strip("0123456789abcdef"):\n',
        new="        if not isinstance(value, str) or len(value) != 2 * size "
        'or value.strip("0123456789abcdefABCDEF"):\n',
        tests=(f"{_WIRE}::test_every_byte_counts",),
    ),
    Mutant(
        name="wire: field too many",
        adversary="A message carries a field that nobody reads.",
        path=_FIELDS,
        old='            raise MalformedMessage(f"{name[:80]!r} does not belong to this message")\n',
        new="            pass\n",
        tests=(f"{_WIRE}::test_a_field_or_section_too_many_or_too_few_is_malformed",),
    ),
    Mutant(
        name="wire: numbers that are none",
        adversary="The server sends item factors that are not finite, and every user's values become so.",
        path=_FIELDS,
        old='    if array.dtype.kind == "f" and not np.all(np.isfinite(array)):\n',
        new="    if False:\n",
        tests=(f"{_WIRE}::test_an_array_that_does_not_fit_its_bytes_is_malformed",),
    ),
)
