"""The SuperLink is told of a node's key in the form that the issuer compares, and in no other."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from flwr.proto.control_pb2 import RegisterNodeResponse

from client.vault import Vault
from shared.errors import BadSetting
from simulations.deployment.certificates import make_server_certificates
from simulations.deployment.control import Control


class Asked(Control):
    """Its questions are only noted."""

    def _ask(self, route: str, request: Any, **options: Any) -> bytes:
        self.asked = route, request
        return bytes(RegisterNodeResponse(node_id=7).SerializeToString())


def test_a_node_is_registered_by_the_file_that_its_client_wrote_and_by_no_other_form_of_it(tmp_path: Path) -> None:
    certificates = make_server_certificates(tmp_path / "tls", now=datetime.now(UTC))
    control = Asked("127.0.0.1:1", certificates.authority)
    vault = Vault.create(tmp_path / "keys")
    public = vault.node_public_path
    assert control.register(public, name="north") == 7
    route, request = control.asked
    assert (route, request.name) == ("register-node", "north")
    told = load_pem_public_key(request.public_key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    assert told.decode() == vault.node_public
    public.write_text(public.read_text().replace("\n", " north\n"))
    with pytest.raises(BadSetting, match="without a comment"):
        control.register(public, name="again")
    assert control.asked[1].name == "north"
