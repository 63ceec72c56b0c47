"""Coverage-guided fuzzing of every target: `python -m tests.fuzz.run --seconds 600 [--target NAME] [--keep FOLDER]`.

Each target gets its share of the time in a process of its own, with a limit on the time of one input and on memory.
Needs the extra `fuzz` (atheris). Ends with 1 if a target found something; the input that did it is named, and kept.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
INPUT_SECONDS = 10
MEMORY_MIB = 2_048
LONGEST_INPUT = 65_536
_EXITS = {70: "an input took too long", 71: "an input took too much memory", 77: "an input raised another error"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one target fared. executions: inputs tried. finding: what was found, empty for nothing."""

    target: str
    seeds: int
    executions: int
    corpus: int
    peak_mib: int
    finding: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Fuzz every parser of the project.")
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--target", action="append", help="this one only; may be given again")
    parser.add_argument("--keep", type=Path, help="where corpora and findings are kept and taken up again")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        return fuzz(options.only, options.flags)
    from tests.fuzz.targets import TARGETS

    known = {target.name: target for target in TARGETS}
    chosen = options.target or list(known)
    unknown = set(chosen) - set(known)
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; the targets are {', '.join(known)}")
    keep = options.keep or Path(tempfile.mkdtemp(prefix="zhiyin-fuzz-"))
    share = max(1, options.seconds // len(chosen))
    print(f"{len(chosen)} targets, {share} seconds each, findings in {keep}", flush=True)
    outcomes = [run(name, known[name].seeds(), share, keep) for name in chosen]
    print_table(outcomes)
    return int(any(outcome.finding for outcome in outcomes))


def run(name: str, seeds: Sequence[bytes], seconds: int, keep: Path) -> Outcome:
    """One target in a process of its own. seeds: written into its corpus first."""
    corpus, found = keep / name / "corpus", keep / name / "findings"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for place, seed in enumerate(seeds):
        (corpus / f"seed-{place:04d}").write_bytes(seed)
    flags = [
        str(corpus), f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={LONGEST_INPUT}", "-len_control=0", "-print_final_stats=1", f"-artifact_prefix={found}/",
    ]  # fmt: skip
    command = [sys.executable, "-m", "tests.fuzz.run", "--only", name, "--", *flags]
    # The limit on one input does not reach code that never returns to the interpreter; this one does.
    limit = seconds + 12 * INPUT_SECONDS
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=limit)
        text, code = (done.stdout + done.stderr).decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as late:
        text, code = (late.stderr or b"").decode(errors="replace"), 70
    outcome = Outcome(
        target=name,
        seeds=len(seeds),
        executions=_number(r"stat::number_of_executed_units:\s+(\d+)", text),
        corpus=len(list(corpus.iterdir())),
        peak_mib=_number(r"stat::peak_rss_mb:\s+(\d+)", text),
        finding=_finding(code, text, found),
    )
    print(f"{name}: {outcome.executions} executions{'; ' + outcome.finding if outcome.finding else ''}", flush=True)
    return outcome


def _finding(code: int, text: str, found: Path) -> str:
    if code == 0:
        return ""
    error = re.search(r"Uncaught Python exception: ===\n(.*)", text)
    told = error[1][:200] if error else "\n".join(text.strip().splitlines()[-3:])
    inputs = ", ".join(sorted(path.name for path in found.iterdir())) or "none was kept"
    return f"{_EXITS.get(code, f'the process ended with {code}')}: {told} ({inputs})"


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0


def print_table(outcomes: Sequence[Outcome]) -> None:
    print(f"\n{'target':<18}{'seeds':>7}{'executions':>12}{'corpus':>8}{'peak MiB':>10}  finding")
    for each in outcomes:
        numbers = f"{each.seeds:>7}{each.executions:>12}{each.corpus:>8}{each.peak_mib:>10}"
        print(f"{each.target:<18}{numbers}  {each.finding or '-'}")
    print(f"{'all':<18}{'':>7}{sum(each.executions for each in outcomes):>12}")


def fuzz(name: str, flags: Sequence[str]) -> int:
    """In the child: instrument what the target runs, then hand over to the fuzzer, which ends the process."""
    try:
        import atheris
    except ImportError:
        print("atheris is missing; it is in the extra: pip install '.[fuzz]'", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["shared", "client", "server", "json", "tomllib"]):
        from tests.fuzz.targets import TARGETS
    target = next(each for each in TARGETS if each.name == name)
    atheris.Setup([sys.argv[0], *flags], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
