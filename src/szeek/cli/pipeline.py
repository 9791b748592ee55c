"""Verbs that make maps of p: run, simulate, train, predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from szeek.cli.options import (
    Catalogues,
    Check,
    Columns,
    ConfigSource,
    Device,
    Exposure,
    Frame,
    Instrument,
    Ivar,
    Maps,
    Masks,
    Ordering,
    Out,
    Scheduler,
    Seed,
    Threads,
    Unit,
    Xray,
    given_sky,
    given_xray,
    is_first_rank,
    load_configuration,
)
from szeek.cli.progress import show_progress

if TYPE_CHECKING:
    from szeek.assess.detections import DetectionCheck
    from szeek.simulate.sky import SimulateConfig
    from szeek.verbs import RunResult

Measure = Annotated[
    bool, typer.Option(help="measure the candidates: S/N, flux, size, spectrum, kind and flags; takes longer")
]


def run(
    config: ConfigSource,
    out: Out,
    seed: Seed = None,
    threads: Threads = None,
    until: Annotated[
        str,
        typer.Option(
            help="last stage: sky, maps, filter, train, predict, calibrate, detect, measure, assess or report"
        ),
    ] = "report",
    measure: Measure = True,
    device: Device = "cpu",
    scheduler: Scheduler = None,
) -> None:
    """Do all stages in order: simulate or read maps, train, predict, detect, measure, assess, report.

    A stage whose inputs have not changed is skipped, a killed one is continued: run the same command again.
    """
    from szeek.verbs import run as run_stages

    settings = load_configuration(config, seed, measure)
    with show_progress() as progress:
        result = run_stages(
            settings, out, until=until, threads=threads, device=device, scheduler=scheduler, progress=progress
        )
    if is_first_rank():
        if result.measured is not None:
            typer.echo(describe_candidates(result))
        reached = "train" if settings.network.target == "foregrounds" and not settings.model else until
        typer.echo(f"report: {result.report}" if result.report else f"products up to '{reached}': {result.folder}")


def describe_candidates(result: RunResult) -> str:
    """Candidates of a run and what they are, in a line or two."""
    from szeek.pipeline.products import CANDIDATES, CLASS_SOURCES

    if result.measured is None or result.predicted is None:
        return ""
    measured, threshold = result.measured, result.p_max
    lines = [
        f"{measured.n_candidates} candidates above p = {threshold:g} in {result.predicted.area_deg2:.1f} deg^2: "
        f"{result.folder / CANDIDATES}"
    ]
    if measured.kinds:
        lines[0] += f" ({describe_kinds(measured.kinds)})"
    if result.detected is not None and result.detected.n_of_class:
        counts = ", ".join(f"{n} {name}" for name, n in result.detected.n_of_class.items())
        lines.append(f"sources of other classes: {counts}: {result.folder / CLASS_SOURCES}")
    if measured.n_known is not None:
        lines.append(
            f"{measured.n_known_found} of {measured.n_known} known clusters inside have a candidate within "
            f"{measured.radius_arcmin:g} arcmin"
        )
    if measured.check is not None:
        lines.append(describe_check(measured.check))
        lines += [f"warning: {warning}" for warning in measured.check.warn()]
    return "\n".join(lines)


def describe_check(check: DetectionCheck) -> str:
    """Known clusters by their S/N in the maps."""
    rows = ", ".join(f"{n} ({e:.0f})" for n, e in zip(check.n_found, check.n_expected, strict=True))
    return (
        f"known clusters found (expected) by their S/N in the maps from {check.snr[0]:g} up: {rows}; "
        f"probability {check.probability:.2g}"
    )


def describe_kinds(kinds: dict[str, int]) -> str:
    """Numbers of each kind.

    Examples
    --------
    >>> describe_kinds({"cluster": 3, "radio": 1})
    '3 cluster, 1 radio'
    """
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def simulate(
    out: Out,
    nside: Annotated[int, typer.Option(help="HEALPix resolution, 64 to 2048")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="another seed, another sky")] = 1,
    threads: Threads = None,
    halves: Annotated[bool, typer.Option("--halves", help="write the two half missions too")] = False,
    rimo: Annotated[
        Path | None, typer.Option(help="HFI instrument model, HFI_RIMO_R3.00.fits: its beams and bandpasses")
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="write validation.html: the sky against published numbers")
    ] = False,
    cutouts: Annotated[
        Path | None, typer.Option(help="folder of real cut-outs hfi_{band}_coma.fits to validate against as well")
    ] = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, help="skies; of several, that of each seed goes to OUT/seed-SEED")
    ] = 1,
    scheduler: Scheduler = None,
) -> None:
    """Make a Planck-like full sky with known truth: six maps, truth, mock catalogues, y map."""
    from szeek.simulate.sky import SimulateConfig, simulate_sky

    settings = SimulateConfig(nside=nside, seed=seed, rimo=rimo, half_missions=halves, threads=threads or 0)
    if number > 1 or scheduler is not None:
        if validate or cutouts:
            raise ValueError("--validate and --cutouts are of one sky made here; leave out --number and --scheduler")
        _simulate_several(settings, out, number, scheduler)
        return
    with show_progress() as progress:
        simulate_sky(settings, out, progress=progress)
    typer.echo(f"simulated sky: {out}")
    if validate or cutouts:
        from szeek.simulate.validate import validate_sky

        checks = validate_sky(out, cutouts=cutouts)
        n_off = int((checks["status"] != "ok").sum())
        typer.echo(f"validation: {out / 'validation.html'}, {len(checks) - n_off} checks ok, {n_off} off")


def _simulate_several(settings: SimulateConfig, out: Path, number: int, scheduler: str | None) -> None:
    from szeek.parallel import connect
    from szeek.simulate.realisations import simulate_skies

    seeds = range(settings.seed, settings.seed + number)
    skies = [(settings.model_copy(update={"seed": seed}), out / f"seed-{seed}") for seed in seeds]
    if number == 1:
        skies = [(settings, out)]
    with show_progress() as progress, connect(scheduler) as client:
        simulate_skies(skies, client=client, progress=progress)
    for _, folder in skies:
        typer.echo(f"simulated sky: {folder}")


def train(
    config: ConfigSource,
    out: Out,
    map: Maps,
    ivar: Ivar = None,
    catalogue: Catalogues = None,
    column: Columns = None,
    seed: Seed = None,
    threads: Threads = None,
    instrument: Instrument = None,
    unit: Unit = None,
    frame: Frame = None,
    ordering: Ordering = None,
    mask: Masks = None,
    check: Check = True,
    device: Device = "cpu",
    scheduler: Scheduler = None,
) -> None:
    """Train a network on maps and catalogues; a killed training is continued by the same command.

    By several processes: `torchrun --nproc-per-node 4 -m szeek.cli train ...`, with `[train] shards` a multiple of 4.
    With `--scheduler` the members of an ensemble and the folds are trained at the same time, each by one worker.
    """
    from szeek.config import load_config
    from szeek.pipeline.products import MODEL_CARD, WEIGHTS
    from szeek.verbs import run as run_stages

    known = instrument or load_config(config).sky.instrument
    sky = given_sky(map, catalogue, column, mask, unit, frame, ordering, check, known, ivar)
    settings = load_config(config, sky=sky) if seed is None else load_config(config, sky=sky, seed=seed)
    with show_progress() as progress:
        run_stages(
            settings, out, until="train", threads=threads, device=device, scheduler=scheduler, progress=progress
        )
    if is_first_rank():
        typer.echo(f"model: {out / WEIGHTS} with its card {MODEL_CARD}")


def predict(
    map: Maps,
    out: Out,
    model: Annotated[str, typer.Option(help="a run's folder, a folder with a model, or a shipped model's name")],
    ivar: Ivar = None,
    catalogue: Catalogues = None,
    column: Columns = None,
    xray: Xray = None,
    exposure: Exposure = None,
    y_map: Annotated[list[Path] | None, typer.Option(help="Compton-y map(s) to show beside p; their mean")] = None,
    p_max: Annotated[
        float | None, typer.Option(min=0, max=1, help="threshold of the candidates; default: the model's own")
    ] = None,
    rotations: Annotated[
        int | None, typer.Option(help="orientations and flips to average: 1, 2, 4 or 8; default: the model's own")
    ] = None,
    measure: Measure = True,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="compute only the I-th of N parts: one task of a job array")
    ] = None,
    gather: Annotated[
        bool, typer.Option("--gather", help="put the parts in the folder together instead of computing")
    ] = False,
    scheduler: Scheduler = None,
    threads: Threads = None,
    instrument: Instrument = None,
    unit: Unit = None,
    frame: Frame = None,
    ordering: Ordering = None,
    mask: Masks = None,
    check: Check = True,
    device: Device = "cpu",
) -> None:
    """Find clusters in maps (full sky or cut-outs) with a trained network: p map, candidates and report.

    On several machines: `--shard 1/16` to `--shard 16/16` in any order, then the same with `--gather`; or
    `--scheduler tcp://host:8786`.
    """
    from szeek.find.shards import parse_shard
    from szeek.verbs import config_of_model, predict_part
    from szeek.verbs import run as run_stages

    if (shard is not None) + gather + (scheduler is not None) > 1:
        raise ValueError("--shard, --gather and --scheduler exclude each other: first every shard, then gather")
    known = instrument or config_of_model(model).sky.instrument
    sky = given_sky(map, catalogue, column, mask, unit, frame, ordering, check, known, ivar)
    sky["y_maps"] = [str(file.resolve()) for file in y_map or ()]
    changes: dict[str, object] = {"sky": sky, "measure": {"enabled": measure}}
    if xray or exposure:
        changes["input"] = {"further": {"xray": given_xray(xray, exposure)}}
    if p_max is not None:
        changes["detect"] = {"p_max": p_max}
    if rotations is not None:
        changes["predict"] = {"rotations": rotations}
    settings = config_of_model(model, **changes)
    with show_progress() as progress:
        if shard is not None:
            part = parse_shard(shard)
            file = predict_part(settings, out, part, threads=threads, device=device, progress=progress)
            typer.echo(f"part {part[0]} of {part[1]}: {file}")
            return
        result = run_stages(
            settings, out, gather=gather, threads=threads, device=device, scheduler=scheduler, progress=progress
        )
    if result.maps is not None and result.maps.preflight:
        typer.echo(result.maps.preflight)
    typer.echo(describe_candidates(result))
    typer.echo(f"report: {result.report}")
