"""The request with which a home asks the issuer to be listed, made from its keys."""

from client.home import ClientHome
from client.vault import Vault
from shared.enrolment import EnrolmentRequest
from shared.roster import Role

SECONDS_A_DAY = 86_400
# Clocks differ: a certificate must not be refused for being a minute young.
CLOCK_SLACK_SECONDS = 60


def enrolment_request(
    home: ClientHome, vault: Vault, roles: tuple[Role, ...], *, now: int, sealing_days: int
) -> EnrolmentRequest:
    """To be listed with the keys of `vault`, which may be newer than those in `home`.

    now: Unix seconds. sealing_days: how long a helper's newest sealing key is certified. BadSetting if there is none.
    """
    sealing = None
    if "helper" in roles:
        not_after = now + sealing_days * SECONDS_A_DAY
        sealing = vault.certify(home.name, not_before=now - CLOCK_SLACK_SECONDS, not_after=not_after)
    return EnrolmentRequest(
        name=home.name,
        roles=roles,
        signing_key=vault.signing_public,
        sealing=sealing,
        node_public_key=vault.node_public,
        created_at=now,
    )
