"""The SuperLink is told of a node's key in the form that the issuer compares, and in no other."""

from pathlib import Path

import pytest

from client.vault import Vault
from shared.errors import BadSetting
from simulations.deployment.federation import Federation, FederationSettings


class Operator(Federation):
    """One whose commands are only noted."""

    def _flwr(self, *arguments: str) -> str:
        self.asked = arguments
        return '{"node-id": 7}'


def test_a_node_is_registered_by_the_file_that_its_client_wrote_and_by_no_other_form_of_it(tmp_path: Path) -> None:
    operator = Operator(FederationSettings(folder=tmp_path / "market", project=tmp_path, tenants=()))
    public = Vault.create(tmp_path / "keys").node_public_path
    assert operator.register(public, name="north") == 7
    assert operator.asked[:3] == ("supernode", "register", str(public))
    public.write_text(public.read_text().replace("\n", " north\n"))
    with pytest.raises(BadSetting, match="without a comment"):
        operator.register(public, name="again")
    assert "again" not in operator.asked
