"""How a node's public key is written: in one way, so that two texts are one key only if they are the same text.

An OpenSSH line may end in a comment, be set apart by any white space and spell its last base64 digit in several ways.
A key that was taken off the list, or that is another party's, would come back as such a line.
"""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from shared.errors import BadSetting

_MAX_CHARACTERS = 1024


def canonical_node_key(text: object) -> str:
    """The one form of the P-384 key that `text` spells: algorithm, a space, base64. Raises BadSetting if it is none."""
    try:
        if not isinstance(text, str) or len(text) > _MAX_CHARACTERS or "\n" in text:
            raise ValueError("not one line")
        key = load_ssh_public_key(text.encode("ascii"))
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise ValueError("another kind of key")
    # The library knows that points can be compressed and reads none: its own word for that is NotImplementedError.
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as error:
        raise BadSetting("a node key must be a P-384 key in OpenSSH form") from error
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")


def require_node_key(text: object) -> str:
    """`text`, if it is a node key in its one form. Raises BadSetting naming the mend."""
    if canonical_node_key(text) != text:
        raise BadSetting(
            "a node key is its algorithm, one space and its base64 digits, without a comment or other white space; "
            "write it as `zhiyin client keys show` prints it"
        )
    return text
