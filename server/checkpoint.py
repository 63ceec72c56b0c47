"""What a job has learned so far, on disk: enough for another run to end with the same model, bit for bit.

Each released sum lies in its own safetensors file, named after its SHA-256; `checkpoint.json` lists the files, binds
them to the plan, and is replaced by one rename, which is the commit. Sums are kept as the integers that were opened,
and never asked for again: asking again would cost every client its budget a second time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from server.durable_files import write_file
from server.learning import Learned, Released
from shared.canonical import canonical_json, sha256_hex, strict_json
from shared.errors import BadSetting, MalformedFile

FORMAT = "zhiyin-checkpoint-2"
FILE = "checkpoint.json"
_COUNTS = ("num_users", "num_tenants", "num_noises")
_OF_COHORTS: dict[str, Callable[[Any], Any]] = {"num_cohorts": int, "noise_factor": float}


def save_checkpoint(folder: Path, plan_digest: str, learned: Learned) -> None:
    """Make `learned` the checkpoint of `folder`; durable when this returns."""
    releases = [_store(folder, step, release) for step, release in enumerate(learned.releases)]
    body = {"format": FORMAT, "plan_digest": plan_digest, "releases": releases}
    digest = sha256_hex(canonical_json(body))
    write_file(folder / FILE, canonical_json({**body, "digest": digest}) + b"\n")


def load_checkpoint(folder: Path, plan_digest: str) -> Learned:
    """The checkpoint, empty where no step was closed yet.

    Raises MalformedFile if it is damaged, BadSetting if it belongs to another plan.
    """
    path = folder / FILE
    if not path.exists():
        return Learned(releases=())
    try:
        body = strict_json(path.read_bytes())
        if body.pop("digest") != sha256_hex(canonical_json(body)) or body["format"] != FORMAT:
            raise ValueError("its digest or format does not match")
        if type(body["plan_digest"]) is not str:
            raise ValueError("it names no plan")
        releases = tuple(_read(folder, entry) for entry in body["releases"])
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, SafetensorError,
    ) as error:  # fmt: skip
        raise MalformedFile(
            f"{path}: the checkpoint is damaged ({error}); restore the folder from a backup, or start the job anew "
            "under another job_id and state folder, which asks every client to pay again"
        ) from error
    if body["plan_digest"] != plan_digest:
        raise BadSetting(
            f"{path}: the checkpoint is of plan {body['plan_digest'][:12]}…, the job asks for {plan_digest[:12]}…; "
            "give the new plan another state folder"
        )
    return Learned(releases=releases)


def _store(folder: Path, step: int, release: Released) -> dict[str, Any]:
    data = save({"total": release.total})
    name = f"step-{step:04d}-{sha256_hex(data)}.safetensors"
    if not (folder / name).exists():
        write_file(folder / name, data)
    # What a plain sum of one cohort has no need of stays out, as in checkpoints from before there were several.
    cohorts = {} if release.num_cohorts == 1 else {field: getattr(release, field) for field in _OF_COHORTS}
    return {"file": name, **{count: getattr(release, count) for count in _COUNTS}, **cohorts}


def _read(folder: Path, entry: dict[str, Any]) -> Released:
    name = str(entry["file"])
    data = (folder / name).read_bytes()
    if sha256_hex(data) != name.removesuffix(".safetensors").rpartition("-")[2]:
        raise ValueError(f"{name} has changed")
    counts = {count: int(entry[count]) for count in _COUNTS}
    cohorts = {name: kind(entry[name]) for name, kind in _OF_COHORTS.items() if name in entry}
    return Released(total=load(data)["total"], **counts, **cohorts)
