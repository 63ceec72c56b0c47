"""A client that stops between two messages goes on from its kept bytes, and from no others."""

import json

import numpy as np
import pytest

from shared.errors import IllegalTransition, MalformedFile
from shared.secagg.pairwise_opening import deliveries_to
from shared.secagg.pairwise_state import from_bytes, to_bytes
from tests.pairwise_cast import Round

ROUND = Round()
COURSE = ROUND.run(r2=[ROUND.names[3]])
ME = ROUND.names[0]
PHASES = ("advertised", "dealt", "masked", "committed", "finished")
STATES = {phase: getattr(COURSE, phase)[ME][0] for phase in PHASES}


@pytest.mark.parametrize("phase", PHASES)
def test_a_kept_state_comes_back_as_it_was(phase: str) -> None:
    data = to_bytes(STATES[phase])
    again = from_bytes(data)
    assert type(again) is type(STATES[phase])
    assert to_bytes(again) == data
    assert (again.client, again.ctx) == (ME, ROUND.ctx)


def test_a_client_restarted_before_every_step_says_the_same() -> None:
    state = from_bytes(to_bytes(STATES["advertised"]))
    state, dealing = ROUND.deal(state, COURSE.bundles)
    state, vector = ROUND.mask(
        from_bytes(to_bytes(state)), deliveries_to(ME, COURSE.dealings), ROUND.values()[ME]
    )  # fmt: skip
    state, signature = ROUND.sign(from_bytes(to_bytes(state)), COURSE.active)
    state, unmasking = ROUND.unmask(from_bytes(to_bytes(state)), COURSE.signatures)
    said = (dealing, vector, signature, unmasking)
    assert said == (COURSE.dealings[0], COURSE.vectors[0], COURSE.signatures[0], COURSE.unmaskings[0])
    with pytest.raises(IllegalTransition):
        ROUND.unmask(from_bytes(to_bytes(state)), COURSE.signatures)


def test_the_round_of_a_restarted_client_opens() -> None:
    state = from_bytes(to_bytes(STATES["committed"]))
    course = ROUND.run(r2=[ROUND.names[3]])
    course.unmaskings[0] = ROUND.unmask(state, course.signatures)[1]
    assert np.array_equal(course.open().total, sum(ROUND.values()[name] for name in course.active))


@pytest.mark.parametrize("phase", PHASES)
def test_a_damaged_state_is_refused_and_its_error_quotes_no_secret(phase: str) -> None:
    data = to_bytes(STATES[phase])
    secrets = [
        word for word in json.loads(data.split(b"\n", 1)[1]).values() if isinstance(word, str) and len(word) == 64
    ]
    for broken in (b"", data[:-1], data + b" ", data[1:], data.replace(b'"phase"', b'"faze"'),
                   data.replace(b'"client":', b'"klient":'), data.replace(b"ctx", b"cxt"),
                   data.replace(b'"phase":"', b'"phase":"x'), data.replace(b":", b": ", 1)):  # fmt: skip
        if broken == data:
            continue
        with pytest.raises(MalformedFile) as raised:
            from_bytes(broken)
        assert raised.value.__suppress_context__
        assert not any(secret in str(raised.value) for secret in secrets)


def test_a_state_cut_at_any_byte_is_refused() -> None:
    data = to_bytes(STATES["committed"])
    for size in range(0, len(data), 97):
        with pytest.raises(MalformedFile):
            from_bytes(data[:size])


def test_a_phase_with_the_fields_of_another_is_refused() -> None:
    data = to_bytes(STATES["masked"]).replace(b'"phase":"masked"', b'"phase":"committed"')
    with pytest.raises(MalformedFile):
        from_bytes(data)


def test_the_last_state_holds_no_secret_and_no_share() -> None:
    kept = to_bytes(STATES["finished"])
    assert set(json.loads(kept.split(b"\n", 1)[1])) == {"phase", "client", "ctx"}
