"""``speakerguard report``: the command, from its options to files and exit code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speakerguard.cli.options import TRAINED_MODEL
from speakerguard.errors import AudioError, UsageError, printable, printable_lines
from speakerguard.progress import TimeLeft

if TYPE_CHECKING:
    from advgan.report.bench import CaseResult
    from advgan.report.plan import Origin, Plan
    from advgan.report.policy import Policy
    from advgan.report.schema import Comparison, Report
    from advgan.victim.defences import Defence
    from speakerguard.verification.verifier import Verifier

OUT = Path("out/report")
REASONS = ("policy", "worse", "error", "never")


def report(
    suite: Annotated[str, typer.Option(help="smoke, standard, or a YAML file.")] = "standard",
    model: Annotated[str, typer.Option(help="A guard's name or folder, or a peer.")] = "default",
    pairs: Annotated[
        Path | None, typer.Option(help="source<TAB>target<TAB>enrol lines, or a trial list.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the list's paths; by default the list's own.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = OUT,
    point: Annotated[str | None, typer.Option(help="Operating point, such as fa-1%.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Limits, as YAML.")] = None,
    compare: Annotated[Path | None, typer.Option(help="report.json of an earlier run.")] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="policy (default), worse (than --compare), error, or never."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 is one a core.")] = 0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    train: Annotated[
        Path | None, typer.Option(help="Speech to train on; by default `train` beside the data.")
    ] = None,
    media: Annotated[
        bool, typer.Option(help="Keep sound and spectrograms of the worst cases in the page.")
    ] = True,
    fresh: Annotated[bool, typer.Option(help="Begin anew, not where this run stopped.")] = False,
    case: Annotated[str | None, typer.Option(help="Run this one case again, such as 3.12.")] = None,
) -> None:
    """Attack a verifier in every known way and report whether it holds."""
    for variable in ("OMP_NUM_THREADS", "SPEAKERGUARD_THREADS"):  # before torch: workers instead
        os.environ.setdefault(variable, "1")
    options = ReportOptions(
        suite=suite, model=TRAINED_MODEL if model == "default" else model, pairs=pairs, root=root,
        out=out, point=point, policy=policy, compare=compare, fail_on=tuple(fail_on or ["policy"]),
        workers=workers or os.cpu_count() or 1, seed=seed, train=train, media=media, fresh=fresh,
    )  # fmt: skip
    _require_reasons(options)
    from advgan.command import one_thread
    from advgan.report import compare as comparison
    from advgan.report.policy import load_policy

    one_thread()
    limits = load_policy(policy)
    earlier = comparison.load_report(compare) if compare else None
    plan, origin = _plan(options)
    if case is not None:
        _replay(plan, case, out)
        return
    result = _run(options, plan, origin, limits)
    if earlier:
        result.comparison = comparison.compare(earlier, result, str(compare))
    names = _write(result, out)
    print(printable_lines(_summary(result)))
    print(f"\n{', '.join(names)} are in {printable(out)}")
    raise typer.Exit(_exit_code(result, options.fail_on))


@dataclass(frozen=True)
class ReportOptions:
    """What the command is asked for; see its options."""

    suite: str
    model: str
    pairs: Path | None
    root: Path | None
    out: Path
    point: str | None
    policy: Path | None
    compare: Path | None
    fail_on: tuple[str, ...]
    workers: int
    seed: int
    train: Path | None
    media: bool
    fresh: bool


def _plan(options: ReportOptions) -> tuple[Plan, Origin]:
    """What to run, and what is known of where it comes from."""
    from advgan.pairs import demo_pairs, read_pairs, training_folder
    from advgan.report.plan import Origin, Plan, load_suite
    from speakerguard.evaluation.demo_set import find_data
    from speakerguard.sound.corpus import spread

    suite, sha256 = load_suite(options.suite)
    pairs, root, train = options.pairs, options.root, options.train
    if train is not None and not train.is_dir():
        raise UsageError(f"{train}: no such folder. --train names a folder of recordings.")
    if pairs is None:
        folder, data = find_data() if root is None else (root, f"speech from {root}")
        listed = demo_pairs(folder)
    else:
        folder, data = root or pairs.parent, f"pairs of {pairs.name}"
        listed = read_pairs(pairs, folder)
    plan = Plan(
        options.suite, suite, options.model, options.point, folder,
        tuple(spread(listed, suite.pairs)), options.seed, train or training_folder(folder),
    )  # fmt: skip
    return plan, Origin(sha256, data, len(listed))


def _run(options: ReportOptions, plan: Plan, origin: Origin, limits: Policy) -> Report:
    """Attack, and put the report together."""
    from advgan.report import assemble, bench, runner
    from advgan.report.programs import code_of
    from speakerguard.files import file_hash
    from speakerguard.verification.verifier import Verifier

    verifier = Verifier(plan.model)
    for asked in (plan.point, limits.point):
        verifier.calibration.point(asked)  # or an error, before any work
    _require_defence(limits.defence, plan)
    judges = " ".join(_decides_by(v) for v in (verifier, *map(Verifier, bench.judging_peers(plan))))
    code, weights = code_of([assemble.__name__, *plan.modules()]), assemble.attacker_weights(plan)
    digest = plan.digest(judges, code_of([bench.__name__]), weights)
    if options.fresh:
        runner.rows_file(options.out, digest).unlink(missing_ok=True)
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    with _Bar() as bar:
        rows = runner.run(plan, options.out, digest, plan.keys(weights), options.workers, bar)
    return assemble.assemble(
        assemble.Run(
            plan=plan, origin=origin, rows=rows, policy=limits,
            policy_name=options.policy.name if options.policy else "the project's own",
            policy_sha256=file_hash(options.policy or Path(__file__).with_name("policy.yaml")),
            code=code, weights=weights, command=_command(options, plan), started=begun,
            workers=options.workers, media=options.media,
        )
    )  # fmt: skip


def _write(result: Report, out: Path) -> list[str]:
    """Write the report and all that goes with it; returns the files' names."""
    from advgan.report.exports import write_all
    from advgan.report.page import page
    from advgan.report.pictures import draw_curves, draw_matrix
    from speakerguard.files import replace_file

    replace_file(out / "report.json", result.model_dump_json(indent=1) + "\n")
    replace_file(out / "report.html", page(result))
    names = ["report.html", "report.json", *write_all(result, out)]
    for draw, name in ((draw_matrix, "matrix.png"), (draw_curves, "curves.png")):
        if draw(result, out / name):
            names.append(name)
    return names


def _require_defence(title: str, plan: Plan) -> None:
    known = ["none", *(built.title for built in plan.suite.built_defences)]
    if title not in known:
        raise UsageError(
            f"the policy asks for the defence {title!r}, which is none of the suite's: "
            f"{', '.join(known)}."
        )


def _replay(plan: Plan, case: str, out: Path) -> None:
    """Run one case again: its audio as files, its score on the screen."""
    from advgan.report.bench import Bench, CaseResult
    from advgan.report.tally import reaches
    from advgan.victim.pcm import save_wav
    from speakerguard.sound.audio import SAMPLE_RATE

    try:
        pair, attack = (int(part) for part in case.split("."))
        entry = plan.suite.entries[attack]
        _ = plan.pairs[pair]
        if min(pair, attack) < 0:
            raise IndexError
    except (ValueError, IndexError):
        raise UsageError(
            f"no case {case!r}: there are pairs 0 to {len(plan.pairs) - 1} and attacks 0 to "
            f"{len(plan.suite.entries) - 1}; case 3.12 is attack 12 on pair 3."
        ) from None
    bench = Bench(plan)
    row = CaseResult(pair, attack)
    clips = dict(zip(("source", "target"), bench.clips(pair), strict=True))
    clips["attack"] = bench.audio(pair, attack, row)
    folder = out / f"case-{case}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in clips.items():
        synthetic = name == "attack" and entry.built.family == "conversion"
        save_wav(folder / f"{name}.wav", clip, SAMPLE_RATE, tag=synthetic)
    who = f"{plan.pairs[pair].source} as {plan.pairs[pair].target}"
    print(printable(f"case {case}: {entry.title}, {who}"))
    print(printable(f"  source.wav, target.wav and attack.wav are in {folder}"))
    try:
        bench.judge(row, clips["attack"])
    except AudioError as error:
        print(printable(f"  REFUSED, so not accepted: {error}"))
        return
    score = row.scores["none"]
    said = "ACCEPT" if reaches(score, bench.threshold) else "REJECT"
    print(f"  {said}  score {score:+.6f}; threshold {bench.threshold:+.6f}; crc {row.crc}")
    print(f"  scores in {bench.verifier.scoring.unit}")
    for title, value in row.scores.items():
        if title != "none":
            print(printable(f"  behind {title}: {_behind(bench.defences[title], value, row)}"))


def _behind(defence: Defence, score: float | None, row: CaseResult) -> str:
    """A score behind a defence, and what that makes of the audio."""
    from advgan.victim.defences import flags

    shown = "refused" if score is None else f"{score:+.6f}"
    doubt, limit = row.suspicion.get(defence.title), defence.limit
    if doubt is None:
        return shown
    if limit is None:
        return f"{shown}; suspicion {doubt:.6f}, whose limit the whole report sets"
    said = "REJECT" if flags(doubt, limit) else "no objection"
    return f"{shown}; suspicion {doubt:+.6f}, limit {limit:g}: {said}"


def _command(options: ReportOptions, plan: Plan) -> str:
    """The command that repeats a case of this run, without its number."""
    import shlex

    root = plan.root if options.pairs is None else options.root
    given = {
        "suite": options.suite, "model": options.model, "pairs": options.pairs, "root": root,
        "point": options.point, "seed": options.seed or None, "train": options.train,
    }  # fmt: skip
    words = [f"--{key} {shlex.quote(str(value))}" for key, value in given.items() if value]
    return " ".join(["speakerguard report", *words])


def _require_reasons(options: ReportOptions) -> None:
    for reason in options.fail_on:
        if reason not in REASONS:
            raise UsageError(f"--fail-on {reason}: choose one of {', '.join(REASONS)}.")
    if "worse" in options.fail_on and options.compare is None:
        raise UsageError("--fail-on worse needs --compare, the report.json to be no worse than.")


def _exit_code(result: Report, reasons: Sequence[str]) -> int:
    from advgan.report.compare import worse

    broken = {
        "policy": not result.verdict.passed,
        "worse": result.comparison is not None and bool(worse(result.comparison)),
        "error": not result.cases
        or any(problem.kind in ("failed", "bad-file") for problem in result.problems),
    }
    for reason, happened in broken.items():
        if happened and reason in reasons and "never" not in reasons:
            print(f"exit code 1: --fail-on {reason}", file=sys.stderr)
            return 1
    return 0


def _summary(result: Report) -> str:
    """The matrix in a terminal: what the verifier alone lets in, and what its best defence does."""
    verdict = "PASS" if result.verdict.passed else "FAIL"
    lines = [f"{verdict}  {result.verdict.sentence}", ""]
    width = max(len(attack.title) for attack in result.attacks)
    lines.append(f"  {'attack':{width}}  accepted            lowest behind")
    for attack in result.attacks:
        if "none" not in attack.cells:
            lines.append(f"  {attack.title:{width}}  not run")
            continue
        rate = attack.cells["none"].accepted
        behind = (
            {}
            if attack.label == "target"
            else {t: c.accepted.value for t, c in attack.cells.items() if t != "none"}
        )
        best = min(behind, key=lambda title: behind[title] or 0.0, default="")
        shown = f"{100 * (rate.value or 0):5.1f} % [{100 * (rate.low or 0):.0f}–"
        shown += f"{100 * (rate.high or 0):.0f}]"
        other = f"{100 * (behind[best] or 0):5.1f} % {best}" if best else ""
        lines.append(f"  {attack.title:{width}}  {shown:18}  {other}")
    counted = sum(problem.cases for problem in result.problems)
    lines += ["", f"  {len(result.cases)} cases; not measured: {counted}"]
    if result.comparison:
        lines += ["", f"since {result.comparison.earlier}:", *_changes(result.comparison)]
    return "\n".join(lines)


def _changes(comparison: Comparison) -> list[str]:
    """What is clearly different, and what else is."""
    from advgan.report.policy import per_cent

    clear = [change for change in comparison.changes if change.clear]
    shown = [f"  {c.what}: {per_cent(c.before)} then, {per_cent(c.now)} now" for c in clear]
    within = len(comparison.changes) - len(clear)
    return [*(f"  {note}" for note in comparison.notes), *shown,
            f"  {len(clear)} rates changed clearly, {within} within chance"]  # fmt: skip


def _decides_by(verifier: Verifier) -> str:
    """Changes with a verifier's weights, engine, strangers and thresholds."""
    return f"{verifier.scoring.decides_by} {type(verifier.embedder).__name__}"


class _Bar:
    """Progress with time left on standard error; lines now and then where that is no terminal."""

    def __enter__(self) -> _Bar:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True)
        columns = ("attacking", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.terminal = console.is_terminal
        self.bar = Progress(*columns, console=console, transient=True, disable=not self.terminal)
        self.task = self.bar.add_task("", total=None)
        self.bar.start()
        self.said = time.monotonic()
        self.left: TimeLeft | None = None
        return self

    def __call__(self, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total)
        if self.left is None:
            self.left, self.before = TimeLeft(done), done
            return
        now = time.monotonic()
        if not self.terminal and now - self.said >= 20:
            known = done - self.before >= 10  # cases of some attacks take many times others'
            about = f", about {self.left(done, total)}" if known else ""
            print(f"{done}/{total} cases{about}", file=sys.stderr)
            self.said = now

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
