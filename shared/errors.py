"""Every error this product raises on purpose.

The tree, with the exit code that the command line gives::

    ZhiyinError                     1
    ├── BadInput                    2   what a person handed in is wrong; names file, line or field and the mend
    │   ├── MalformedFile               unreadable, wrong columns, wrong encoding, bad value
    │   ├── UnknownItem                 an item that the catalogue does not list
    │   ├── CatalogueMismatch           made for another catalogue snapshot
    │   ├── NoInteractions              a user, or a store, without a usable history
    │   └── BadSetting                  a setting or option that cannot be used
    ├── PrivacyRefusal              3   going on would break a promise to the people behind the data
    │   ├── BudgetExhausted             the local budget does not cover the release
    │   ├── PolicyViolation             the server asks for less protection than the local policy allows
    │   ├── ClockSetBack                this machine's clock is behind what its home has recorded
    │   └── UnknownMechanism            the accountant does not know the mechanism, so it counts nothing
    ├── ProtocolError               4   a peer's message cannot be accepted
    │   ├── MalformedMessage            bytes that no honest peer sends
    │   ├── BadSignature                a signature that does not verify
    │   ├── BadSeal                     a sealed secret that does not open with this key in this context
    │   ├── UnknownKey                  a key that is not on the roster or not pinned
    │   ├── ExpiredKey                  a key outside its validity
    │   ├── WrongShare                  a share, or what shares give, that is not what its owner committed to
    │   ├── OldRoster                   a list of parties older than one that was accepted before
    │   ├── ForkedRoster                a second list of parties with the epoch of one that was accepted before
    │   ├── WrongContext                a message made for other parameters, another round or another client
    │   ├── AlreadyAnswered             a helper was asked twice about one context
    │   ├── TooFewClients               fewer contributions than the minimum cohort
    │   ├── CapacityExceeded            a sum that could leave the ring
    │   └── IllegalTransition           an event that the round's state does not allow
    ├── ArtifactRejected            5   a model that is damaged, unsigned or not ours
    └── DeploymentError             6   a process, port or file of the running system
        ├── PortInUse
        ├── BundleRefused               code that is not on the allow-list
        └── ProcessFailed

Messages carry numbers and names of files, fields, keys and parties; never a user's data.
"""


class ZhiyinError(Exception):
    """Base of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class BadInput(ZhiyinError):
    exit_code = 2


class MalformedFile(BadInput): ...


class UnknownItem(BadInput): ...


class CatalogueMismatch(BadInput): ...


class NoInteractions(BadInput): ...


class BadSetting(BadInput): ...


class PrivacyRefusal(ZhiyinError):
    exit_code = 3


class BudgetExhausted(PrivacyRefusal): ...


class PolicyViolation(PrivacyRefusal): ...


class UnknownMechanism(PrivacyRefusal): ...


class ClockSetBack(PrivacyRefusal): ...


class ProtocolError(ZhiyinError):
    exit_code = 4


class MalformedMessage(ProtocolError): ...


class BadSignature(ProtocolError): ...


class BadSeal(ProtocolError):
    """client: the party that sealed it, empty where that is not known."""

    def __init__(self, message: str, *, client: str = "") -> None:
        super().__init__(message)
        self.client = client


class UnknownKey(ProtocolError): ...


class ExpiredKey(ProtocolError): ...


class OldRoster(ProtocolError): ...


class ForkedRoster(ProtocolError): ...


class WrongShare(ProtocolError):
    """owner: the party whose secret the share is of, where the fault is shown to be its own; else empty."""

    def __init__(self, message: str, *, owner: str = "") -> None:
        super().__init__(message)
        self.owner = owner


class WrongContext(ProtocolError): ...


class AlreadyAnswered(ProtocolError): ...


class TooFewClients(ProtocolError): ...


class CapacityExceeded(ProtocolError): ...


class IllegalTransition(ProtocolError): ...


class ArtifactRejected(ZhiyinError):
    exit_code = 5


class DeploymentError(ZhiyinError):
    exit_code = 6


class PortInUse(DeploymentError): ...


class BundleRefused(DeploymentError): ...


class ProcessFailed(DeploymentError): ...
