"""Checkpoint, record of releases, registry and job file: whole or refused, whatever happens to disk or power."""

import json
import os
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from server.checkpoint import load_checkpoint, save_checkpoint
from server.durable_files import make_folder, sole_user, write_file
from server.learning import Learned, Released
from server.publishing import publish, read_latest, versions
from server.releases import ReleaseLedger
from server.settings import load_settings, load_signing_key, require_known_tenants
from shared.accounting import PrivacyStatement
from shared.artifact import Artifact, open_artifact
from shared.errors import ArtifactRejected, BadSetting, DeploymentError, MalformedFile
from shared.roster import Member, Roster
from tests.secagg_cast import certified

DIGEST = "a" * 64
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()


def learned(*sums: int) -> Learned:
    return Learned(
        releases=tuple(
            Released(total=np.array([each, -each, 2**62]), num_users=each, num_tenants=3, num_noises=each % 3)
            for each in sums
        )
    )


def totals(found: Learned):
    return [
        (release.total.tolist(), release.num_users, release.num_tenants, release.num_noises)
        for release in found.releases
    ]


# --- checkpoint ---


def test_a_checkpoint_comes_back_exactly(tmp_path):
    assert load_checkpoint(tmp_path, DIGEST).releases == ()
    for count in (1, 2):
        save_checkpoint(tmp_path, DIGEST, learned(*range(7, 7 + count)))
        assert totals(load_checkpoint(tmp_path, DIGEST)) == totals(learned(*range(7, 7 + count)))


def test_what_cohorts_made_of_the_noise_comes_back_and_a_plain_sum_is_written_as_before(tmp_path):
    plain, cohorts = learned(7).releases[0], replace(learned(8).releases[0], num_cohorts=5, noise_factor=1.0661)
    save_checkpoint(tmp_path, DIGEST, Learned(releases=(plain, cohorts)))
    found = load_checkpoint(tmp_path, DIGEST).releases
    assert [(each.num_cohorts, each.noise_factor) for each in found] == [(1, 1.0), (5, 1.0661)]
    written = json.loads((tmp_path / "checkpoint.json").read_text())["releases"]
    assert set(written[0]) == {"file", "num_users", "num_tenants", "num_noises"}


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    save_checkpoint(tmp_path, DIGEST, learned(7))
    with pytest.raises(BadSetting, match="another state folder"):
        load_checkpoint(tmp_path, "b" * 64)


@pytest.mark.parametrize("pattern", ["checkpoint.json", "step-0000-*", "step-0001-*"])
def test_any_changed_byte_of_a_checkpoint_is_refused(tmp_path, pattern):
    save_checkpoint(tmp_path, DIGEST, learned(7, 8))
    path = next(tmp_path.glob(pattern))
    data = path.read_bytes()
    for position in range(len(data) - (pattern == "checkpoint.json")):  # the last byte there is the line's end
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x15]) + data[position + 1 :])
        with pytest.raises(MalformedFile, match="is damaged"):
            load_checkpoint(tmp_path, DIGEST)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MalformedFile, match="is damaged"):
        load_checkpoint(tmp_path, DIGEST)
    path.unlink()
    if pattern != "checkpoint.json":
        with pytest.raises(MalformedFile, match="is damaged"):
            load_checkpoint(tmp_path, DIGEST)


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it and tidy up."""


def cut_at(monkeypatch, number: int) -> None:
    """The `number`-th change of a name in the file system, or flush to disk, does not happen any more."""
    left = [number]

    def counted(original):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
            return original(*arguments, **options)

        return call

    for name in ("replace", "rename", "fsync", "mkdir", "unlink"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def test_a_power_cut_at_any_instant_leaves_the_old_checkpoint_or_the_new_one(tmp_path, monkeypatch):
    seen = set()
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_checkpoint(folder, DIGEST, learned(7))
        with monkeypatch.context() as patch:
            cut_at(patch, number)
            with suppress(PowerCut):
                save_checkpoint(folder, DIGEST, learned(7, 8))
        seen.add(len(load_checkpoint(folder, DIGEST).releases))
    assert seen == {1, 2}


# --- record of releases ---


def record(ledger: ReleaseLedger, kind: str = "attempt", step: int = 0, attempt: int = 0) -> None:
    ledger.append(kind, job_id="job-1", plan_digest=DIGEST, time=1, step=step, attempt=attempt)


def test_attempt_numbers_go_on_after_a_restart(tmp_path):
    ledger = ReleaseLedger.open(tmp_path)
    assert ledger.next_attempt(DIGEST, 0) == 0
    record(ledger)
    record(ledger, attempt=1)
    record(ledger, step=1)
    again = ReleaseLedger.open(tmp_path)
    assert (again.next_attempt(DIGEST, 0), again.next_attempt(DIGEST, 1), again.next_attempt(DIGEST, 2)) == (2, 1, 0)
    assert again.next_attempt("b" * 64, 0) == 0
    assert again.attempts(DIGEST) == (0, 0, 1)


def test_a_torn_last_line_is_dropped_because_nothing_can_have_followed_it(tmp_path):
    record(ReleaseLedger.open(tmp_path))
    path = tmp_path / "releases.jsonl"
    whole = path.read_bytes()
    for size in (1, 40):
        path.write_bytes(whole + whole[:size])
        ledger = ReleaseLedger.open(tmp_path)
        assert ledger.attempts(DIGEST) == (0,)
        assert path.read_bytes() == whole
    record(ledger, attempt=1)
    assert ReleaseLedger.open(tmp_path).next_attempt(DIGEST, 0) == 2


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "blank"])
def test_a_changed_record_is_refused(tmp_path, change):
    ledger = ReleaseLedger.open(tmp_path)
    for attempt in range(3):
        record(ledger, attempt=attempt)
    path = tmp_path / "releases.jsonl"
    lines = path.read_bytes().split(b"\n")
    if change == "edit":
        lines[1] = lines[1].replace(b'"attempt":1', b'"attempt":9')
    elif change == "remove":
        del lines[0]
    elif change == "swap":
        lines[0], lines[1] = lines[1], lines[0]
    else:
        lines[1] = b""
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(MalformedFile, match=r"releases.jsonl line \d"):
        ReleaseLedger.open(tmp_path)


def test_a_state_folder_serves_one_run_at_a_time(tmp_path):
    with sole_user(tmp_path), pytest.raises(DeploymentError, match="another run"), sole_user(tmp_path):
        pass
    with sole_user(tmp_path):
        pass


# --- registry ---


def artifact_for(plan_digest: str, value: float):
    def make(version: int) -> Artifact:
        return Artifact(
            name="courses", version=version, created=1, recipe="cooccurrence", catalogue_digest="c" * 64,
            plan_digest=plan_digest, settings={},
            privacy=PrivacyStatement(epsilon=1.0, delta=1e-6, against="server", mechanisms=(), tuned_on_data=False),
            tensors={"head": np.array([value], dtype=np.float32)},
        )  # fmt: skip

    return make


def latest(registry) -> Artifact:
    return open_artifact(read_latest(registry, "courses"), publisher_public_key=PUBLIC)


def test_versions_count_up_and_latest_follows(tmp_path):
    assert [publish(tmp_path, "courses", artifact_for(c * 64, i), KEY) for i, c in enumerate("abc")] == [1, 2, 3]
    assert latest(tmp_path).version == 3
    assert versions(tmp_path / "courses") == (1, 2, 3)


def test_the_same_model_is_not_published_twice(tmp_path):
    for _ in range(2):
        assert publish(tmp_path, "courses", artifact_for(DIGEST, 1.0), KEY) == 1
    assert publish(tmp_path, "courses", artifact_for(DIGEST, 2.0), KEY) == 2


def test_a_power_cut_at_any_instant_leaves_the_old_model_or_the_new_one(tmp_path, monkeypatch):
    seen = set()
    for number in range(24):
        registry = tmp_path / str(number)
        publish(registry, "courses", artifact_for("a" * 64, 1.0), KEY)
        with monkeypatch.context() as patch:
            cut_at(patch, number)
            with suppress(PowerCut):
                publish(registry, "courses", artifact_for("b" * 64, 2.0), KEY)
        found = latest(registry)
        assert found.tensors["head"][0] == {"a" * 64: 1.0, "b" * 64: 2.0}[found.plan_digest]
        seen.add(found.version)
        # The next run mends what the cut left.
        assert publish(registry, "courses", artifact_for("b" * 64, 2.0), KEY) == 2
        assert latest(registry).version == 2
        assert not [path for path in (registry / "courses").iterdir() if path.name.startswith(".unfinished")]
    assert seen == {1, 2}


@pytest.mark.parametrize("name", ["", "../up", "Upper", "a/b", "x" * 65])
def test_a_name_that_is_no_folders_is_refused(tmp_path, name):
    with pytest.raises(BadSetting, match="model name"):
        publish(tmp_path, name, artifact_for(DIGEST, 1.0), KEY)


def test_an_empty_registry_has_no_latest(tmp_path):
    with pytest.raises(ArtifactRejected, match="no published model"):
        read_latest(tmp_path, "courses")


# --- settings ---

JOB = """
plan = "plan.json"
roster = "roster.bin"
issuer_public_key = "{key}"
catalogue = "catalogue.bin"
signing_key = "/keys/publisher.key"
state = "state"
registry = "registry"
tuned_on_data = true
collect_seconds = 5
[[models]]
name = "courses"
readout = {{ kind = "factors", ridge = 0.1, diagonal = 1.0 }}
fold_in = {{ recency = 0.5 }}
""".format(key="1" * 64)


def load(tmp_path, text: str):
    (tmp_path / "job.toml").write_text(text)
    return load_settings(tmp_path / "job.toml")


def test_paths_are_relative_to_the_job_file(tmp_path):
    settings = load(tmp_path, JOB)
    assert settings.state == tmp_path / "state"
    assert str(settings.signing_key) == "/keys/publisher.key"
    assert settings.collect_seconds == 5.0


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('plan = "plan.json"', "plan = 3", "plan must be a path"),
        ("tuned_on_data = true", "tuned_on_data = 1", "tuned_on_data must be true or false"),
        ("tuned_on_data = true", "", "tuned_on_data"),
        ("collect_seconds = 5", "collect_seconds = -1", "collect_seconds must not be below zero"),
        ("collect_seconds = 5", "collect_secs = 5", "collect_secs"),
        ("collect_seconds = 5", "max_attempts = 0", "max_attempts must be at least 1"),
        ("collect_seconds = 5", "max_declared_users = 500", "max_declared_users must be a table"),
        ("collect_seconds = 5", "max_declared_users = { north = 0 }", "max_declared_users of north must be a whole"),
        ("collect_seconds = 5", "max_declared_users = { north = true }", "max_declared_users of north must be a whole"),
        ("collect_seconds = 5", 'max_declared_users = { "?" = 5 }', "a party's name must be"),
        ("1" * 64, "1" * 63, "issuer_public_key must be 64"),
        ('kind = "factors"', 'kind = "magic"', 'kind = "weights" or "factors"'),
        ("ridge = 0.1", "ridge = -1.0", "ridge"),
        ("[[models]]", "[[[", "not a TOML file"),
    ],
)
def test_a_wrong_job_file_is_refused_naming_file_and_setting(tmp_path, old, new, named):
    assert old in JOB
    with pytest.raises(BadSetting) as refused:
        load(tmp_path, JOB.replace(old, new))
    assert "job.toml" in str(refused.value)
    assert named in str(refused.value)


def test_limits_on_declared_users_are_read_and_must_name_tenants_of_the_roster(tmp_path):
    settings = load(tmp_path, JOB.replace("collect_seconds = 5", 'max_declared_users = { north = 500, "*" = 200 }'))
    assert settings.max_declared_users == {"north": 500, "*": 200}
    fields = {"sealing": certified("north", not_after=9), "not_before": 0, "not_after": 9}
    north = Member(name="north", signing_key="1" * 64, roles=("tenant", "helper"), **fields)
    require_known_tenants(settings, Roster(entries=(north,), epoch=1, issued_at=0, expires_at=9))
    helper = replace(north, roles=("helper",))
    for entries in ((), (helper,)):
        with pytest.raises(BadSetting, match="max_declared_users names north"):
            require_known_tenants(settings, Roster(entries=entries, epoch=1, issued_at=0, expires_at=9))


def test_a_missing_job_file_says_which_setting_names_it(tmp_path):
    with pytest.raises(BadSetting, match="set the run's `job`"):
        load_settings(tmp_path / "nowhere.toml")


def test_the_publishers_key_must_be_private_and_ed25519(tmp_path):
    path = tmp_path / "publisher.key"
    pem = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(path, KEY.private_bytes(*pem))
    path.chmod(0o600)
    assert load_signing_key(path).public_key().public_bytes_raw() == PUBLIC
    path.chmod(0o644)
    with pytest.raises(BadSetting, match="chmod 600"):
        load_signing_key(path)
    path.chmod(0o600)
    write_file(path, X25519PrivateKey.generate().private_bytes(*pem))
    path.chmod(0o600)
    with pytest.raises(BadSetting, match="Ed25519"):
        load_signing_key(path)
    write_file(path, b"secret-looking nonsense")
    path.chmod(0o600)
    with pytest.raises(BadSetting) as refused:
        load_signing_key(path)
    assert "nonsense" not in str(refused.value)


def test_folders_are_made_with_their_parents(tmp_path):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
