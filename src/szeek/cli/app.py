"""One verb per stage. Each parses, calls one public function, and says where the output is.

Heavy imports happen inside the verbs: `szeek --help` answers without loading PyTorch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from szeek.cli.data import data_app
from szeek.cli.messages import describe_error, fit_to_command

if TYPE_CHECKING:
    from szeek.config import Config
    from szeek.parallel import Progress
    from szeek.simulate.sky import SimulateConfig

app = typer.Typer(
    name="szeek",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Find galaxy clusters in maps of the microwave sky through their Sunyaev-Zel'dovich effect.\n\n"
    "The whole job on a simulated sky: `szeek run demo --out my-run`. On your own maps: write a TOML file with "
    "`[sky] maps` and `catalogues` (see `szeek config --help`), then `szeek run my.toml --out my-run`.",
)

app.add_typer(data_app, name="data")

ConfigSource = Annotated[
    str, typer.Argument(metavar="CONFIG", help="a preset's name (see `szeek config`) or a TOML file")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", file_okay=False, writable=True, help="folder to write to; made if need be")
]
Seed = Annotated[int | None, typer.Option(min=0, help="overrides the configuration's seed")]
Threads = Annotated[int | None, typer.Option(min=1, help="threads to use; all cores by default, same results")]
Maps = Annotated[
    list[str],
    typer.Option(
        "--map",
        "-m",
        help="BAND=FILE, once per band, or one pattern with {band}, e.g. 'HFI_SkyMap_{band}_2048_R3.01_full.fits'; "
        "for `predict` also the folder `maps` of a run",
    ),
]
Catalogues = Annotated[
    list[str] | None,
    typer.Option(
        "--catalogue",
        "-c",
        help="file of known clusters, or PSZ2=FILE to let a list of one's own stand in for that survey; may be given "
        "several times",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="QUANTITY=NAME, a catalogue's column where its names do not tell, e.g. redshift=z_spec; name, ra, dec, "
        "glon, glat, redshift, richness, snr, m500, theta500; may be repeated",
    ),
]
Unit = Annotated[
    str | None,
    typer.Option(
        help="unit of the maps, instead of what their headers say: K_CMB, mK_CMB, uK_CMB, MJy/sr; or by band, "
        "100=uK_CMB,545=MJy/sr"
    ),
]
Frame = Annotated[
    str | None, typer.Option(help="frame of the maps, instead of what headers say; galactic, icrs, ecliptic")
]
Ordering = Annotated[str | None, typer.Option(help="HEALPix ordering, instead of what the headers say: RING, NESTED")]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        help="HEALPix mask, 1 where the sky is to be used, or COLUMN=FILE where it has several; may be given several "
        "times",
    ),
]
Check = Annotated[
    bool, typer.Option(help="refuse maps whose bands do not belong together: exchanged, or in the wrong unit")
]
Device = Annotated[
    str, typer.Option(help="where the network runs: cpu, cuda, cuda:1, or auto for a GPU where there is one")
]

Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="share the work out to the workers of this Dask scheduler (or its file); same results"
    ),
]


@app.command()
def run(
    config: ConfigSource,
    out: Out,
    seed: Seed = None,
    threads: Threads = None,
    until: Annotated[
        str, typer.Option(help="last stage: sky, maps, train, predict, detect, assess or report")
    ] = "report",
    device: Device = "cpu",
    scheduler: Scheduler = None,
) -> None:
    """Do all stages in order: simulate or read maps, train, predict, detect, assess, report.

    A stage whose inputs have not changed is skipped, a killed one is continued: run the same command again.
    """
    from szeek.pipeline.run import run as run_stages

    with _progress() as progress:
        options: dict[str, Any] = {"threads": threads, "device": device, "scheduler": scheduler}
        report = run_stages(_load(config, seed), out, **options, until=until, progress=progress)
    if _is_first_rank():
        typer.echo(f"report: {report}" if until == "report" else f"products up to '{until}': {report}")


@app.command()
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
    with _progress() as progress:
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
    with _progress() as progress, connect(scheduler) as client:
        simulate_skies(skies, client=client, progress=progress)
    for _, folder in skies:
        typer.echo(f"simulated sky: {folder}")


@app.command()
def train(
    config: ConfigSource,
    out: Out,
    map: Maps,
    catalogue: Catalogues = None,
    column: Columns = None,
    seed: Seed = None,
    threads: Threads = None,
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
    from szeek.pipeline.run import run as run_stages

    sky = {
        "simulate": False,
        "maps": {band: str(file.resolve()) for band, file in _band_files(map).items()},
        "catalogues": _resolved(catalogue),
        "columns": _named_values("--column", column),
        "unit": _units(unit),
        "frame": frame,
        "ordering": ordering,
        "check": check,
        **({"masks": _resolved(mask)} if mask else {}),  # else those of the configuration
    }
    changes: dict[str, Any] = {"sky": sky} if seed is None else {"sky": sky, "seed": seed}
    with _progress() as progress:
        options: dict[str, Any] = {"threads": threads, "device": device, "scheduler": scheduler}
        run_stages(load_config(config, **changes), out, **options, until="train", progress=progress)
    if _is_first_rank():
        typer.echo(f"model: {out / 'model.safetensors'} with its card model.json")


@app.command()
def predict(
    map: Maps,
    out: Out,
    model: Annotated[str, typer.Option(help="a run's folder, a folder with model.json, or a shipped model's name")],
    catalogue: Catalogues = None,
    column: Columns = None,
    y_map: Annotated[list[Path] | None, typer.Option(help="Compton-y image(s) to show beside p; their mean")] = None,
    p_max: Annotated[float, typer.Option(min=0, max=1, help="threshold of the candidates")] = 0.1,
    rotations: Annotated[
        int | None, typer.Option(help="orientations and flips to average: 1, 2, 4 or 8; default: the model's own")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="compute only the I-th of N parts: one task of a job array")
    ] = None,
    gather: Annotated[
        bool, typer.Option("--gather", help="put the parts in the folder together instead of computing")
    ] = False,
    scheduler: Scheduler = None,
    threads: Threads = None,
    unit: Unit = None,
    frame: Frame = None,
    ordering: Ordering = None,
    mask: Masks = None,
    check: Check = True,
    device: Device = "cpu",
) -> None:
    """Find clusters in maps (full sky or cut-outs) with a trained network: prediction.fits and candidates.

    On a cluster: `--shard 1/16` to `--shard 16/16` in any order on any machines, then the same with `--gather`;
    or `--scheduler tcp://host:8786`.
    """
    from szeek.pipeline.filejobs import predict_files

    with _progress() as progress:
        summary = predict_files(
            Path(map[0]) if len(map) == 1 and Path(map[0]).is_dir() else _band_files(map),
            model,
            out,
            catalogues=catalogue or [],
            columns=_named_values("--column", column),
            y_maps=y_map or [],
            p_max=p_max,
            rotations=rotations,
            shard=shard,
            gather=gather,
            scheduler=scheduler,
            threads=threads,
            device=device,
            unit=_units(unit),
            frame=frame,
            ordering=ordering,
            masks=mask or [],
            check=check,
            progress=progress,
        )
    typer.echo(summary)


@app.command()
def detect(
    prediction: Annotated[Path, typer.Argument(help="prediction.fits, or the folder that holds it")],
    out: Out,
    p_max: Annotated[float, typer.Option(min=0, max=1, help="threshold on p")] = 0.1,
    purity: Annotated[
        float | None, typer.Option(help="instead: the lowest threshold that gives this purity, by calibration.ecsv")
    ] = None,
    deblend: Annotated[bool, typer.Option("--deblend", help="separate neighbours within one connected area")] = False,
    frame: Frame = None,
) -> None:
    """Turn a p map into a candidate catalogue: FITS, VOTable, CSV and DS9 regions."""
    from szeek.pipeline.filejobs import detect_files

    typer.echo(detect_files(prediction, out, p_max=p_max, purity=purity, deblend=deblend, frame=frame))


@app.command()
def photometry(
    positions: Annotated[
        Path, typer.Argument(metavar="RUN_OR_TABLE", help="folder of a run; or, with --map, a catalogue to measure")
    ],
    map: Annotated[
        list[str] | None, typer.Option("--map", "-m", help="BAND=FILE, or one pattern with {band}, as for predict")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write to, with --map")] = Path("."),
    column: Columns = None,
    threads: Threads = None,
    unit: Unit = None,
    frame: Frame = None,
    ordering: Ordering = None,
    check: Check = True,
) -> None:
    """Measure S/N, flux, size, band fluxes, spectrum and kind of a run's candidates, or of any list of positions."""
    from szeek.pipeline.photometryfiles import measure_files, measure_run

    with _progress() as progress:
        if map is None:
            summary = measure_run(positions, threads=threads, progress=progress)
        else:
            words: dict[str, Any] = {"unit": _units(unit), "frame": frame, "ordering": ordering, "check": check}
            words["columns"] = _named_values("--column", column)
            summary = measure_files(positions, _band_files(map), out, **words, threads=threads, progress=progress)
    typer.echo(summary)


@app.command()
def assess(
    prediction: Annotated[Path, typer.Argument(help="prediction.fits, or the folder that holds it")],
    out: Out,
    catalogue: Catalogues = None,
    column: Columns = None,
    tile: Annotated[list[int] | None, typer.Option(help="count in this tile (0 to 47) only; may be repeated")] = None,
    frame: Frame = None,
) -> None:
    """Measure which known clusters a p map recovers, against the threshold, with errors and chance rate."""
    from szeek.pipeline.filejobs import assess_files

    named = _named_values("--column", column)
    typer.echo(assess_files(prediction, catalogue or [], out, columns=named, tiles=tile, frame=frame))


@app.command()
def selection(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    n: Annotated[int, typer.Option("--number", "-n", min=20, help="clusters to inject")] = 10_000,
    tile: Annotated[list[int] | None, typer.Option(help="inject in this tile (0 to 47); may be repeated")] = None,
    seed: Annotated[int, typer.Option(help="of the injections")] = 0,
    threads: Threads = None,
    scheduler: Scheduler = None,
) -> None:
    """Measure completeness and position errors by injecting clusters into a run's maps and finding them again.

    Writes selection.fits (injections, noise, completeness as a HEALPix cube) and positions.ecsv, from which `szeek
    detect` and `szeek run` fill POS_ERR.
    """
    from szeek.pipeline.runjobs import measure_selection

    with _progress() as progress:
        options: dict[str, Any] = {"threads": threads, "scheduler": scheduler}
        summary = measure_selection(run_folder, n=n, tiles=tile, seed=seed, **options, progress=progress)
    typer.echo(summary)


@app.command()
def purity(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    tile: Annotated[list[int] | None, typer.Option(help="search this tile (0 to 47) only; may be repeated")] = None,
    seed: Annotated[int, typer.Option(help="of the shifted positions")] = 0,
    threads: Threads = None,
) -> None:
    """Measure purity without truth: by what is found in the same maps with signs flipped or bands turned.

    Writes purity.ecsv, with the share of known clusters and, of a simulated run, the true purity beside it.
    """
    from szeek.pipeline.runjobs import measure_purity

    with _progress() as progress:
        summary = measure_purity(run_folder, tiles=tile, seed=seed, threads=threads, progress=progress)
    typer.echo(summary)


@app.command()
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]) -> None:
    """Write report.html again from the products of a run."""
    from szeek.show.report.page import write_report

    typer.echo(f"report: {write_report(run_folder)}")


@app.command()
def stack(
    positions: Annotated[
        Path, typer.Argument(metavar="RUN_OR_TABLE", help="folder of a run; or, with --map, a catalogue to stack at")
    ],
    map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            "-m",
            help="NAME=FILE, HEALPix or cut-out; may be repeated, the same NAME twice for two halves; or one pattern "
            "with {band} for the six bands",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write to, with --map")] = Path("stacks"),
    sample: Annotated[
        list[str] | None, typer.Option(help="of a run: all, unmatched, test_tile; may be repeated; default: each")
    ] = None,
    mask: Annotated[list[str] | None, typer.Option(help="NAME=FILE, HEALPix mask of that map")] = None,
    unit: Annotated[list[str] | None, typer.Option(help="NAME=UNIT where that map's file says none")] = None,
    beam: Annotated[list[str] | None, typer.Option(help="NAME=ARCMIN, FWHM where that map's file says none")] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help="TABLE=ARCMIN, sources cut out of every map; may be repeated")
    ] = None,
    least: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE, only sources above it, e.g. richness=30; may be repeated")
    ] = None,
    survey: Annotated[str | None, typer.Option(help="name of the catalogue where its columns do not tell")] = None,
    column: Columns = None,
    extent: Annotated[float, typer.Option(min=0, help="FWHM of the sources in arcmin, for the spectrum")] = 0.0,
    weights: Annotated[str | None, typer.Option(help="column to weight the sources with, e.g. p or snr")] = None,
    oriented: Annotated[
        bool, typer.Option("--oriented", help="Galactic north up instead of turned at random, as in the paper")
    ] = False,
    median: Annotated[bool, typer.Option("--median", help="the median images too; takes much longer")] = False,
    nulls: Annotated[
        str, typer.Option(help="matched (random positions of like latitude and dust) or rotated (in longitude)")
    ] = "matched",
    null_sets: Annotated[int, typer.Option(min=2, help="sets of null positions")] = 5,
    bins: Annotated[int, typer.Option(min=1, help="bins of equal counts in p (or S/N), with --map")] = 1,
    pixels: Annotated[int, typer.Option(min=16, help="pixels of 1.7177 arcmin on a side")] = 120,
    seed: Annotated[int, typer.Option(help="of the null positions and bootstraps")] = 0,
    scheduler: Scheduler = None,
) -> None:
    """Stack a run's candidates in every map that is there, or any maps at any catalogue; with matched nulls.

    With `--map` the stacks are drawn too: stacks.png and, where all six bands are given, spectrum.png.
    """
    from szeek.parallel import connect
    from szeek.pipeline.stackjob import SAMPLES, stack_run
    from szeek.show.figures.stackfigures import draw_stack_folder
    from szeek.stack.catalogue import stack_catalogue

    if map is None and (mask or unit or beam or survey or column or bins != 1 or cut or least or extent):
        raise ValueError(
            "--mask, --unit, --beam, --survey, --column, --cut, --least, --extent and --bins go with --map; a run's "
            "stacks have their own"
        )
    if map is not None and (scheduler is not None or sample):
        raise ValueError("--scheduler and --sample are for a run's stacks, not for those of --map")
    settings: dict[str, Any] = {
        "weights": weights, "oriented": oriented, "median": median, "null_kind": nulls, "n_null_sets": null_sets,
        "size": pixels, "seed": seed,
    }  # fmt: skip
    if map is None:
        with _progress() as progress, connect(scheduler) as client:
            folder = stack_run(
                positions, samples=tuple(sample or SAMPLES), **settings, client=client,
                progress=progress,
            )  # fmt: skip
        typer.echo(f"stacks: {folder}")
        return
    folder = stack_catalogue(
        positions,
        _stack_maps(map),
        out,
        survey=survey,
        columns=_named_values("--column", column),
        units=_named_values("--unit", unit),
        beams_arcmin=_named_numbers("--beam", beam),
        masks=_named_values("--mask", mask),
        cut=list(_named_numbers("--cut", cut).items()),
        least=_named_numbers("--least", least),
        extent_arcmin=extent,
        n_p_bins=bins,
        **settings,
    )
    drawn = draw_stack_folder(folder)
    record = json.loads((folder / "stacks.json").read_text())
    typer.echo(f"{record['n_source']} of {record['n_listed']} listed sources are asked for and lie inside all maps")
    typer.echo(f"stacks: {folder}, drawn in {' and '.join(file.name for file in drawn)}")


def _stack_maps(given: list[str]) -> dict[str, str | list[str]]:
    """NAME=FILE pairs, two files under one name as its halves, and a pattern with {band} as all bands."""
    files: dict[str, str | list[str]] = {}
    pattern = [item for item in given if "{band}" in item]
    for band, of_band in _band_files(pattern).items() if pattern else ():
        files[band] = str(of_band)
    halves: dict[str, list[str]] = {}
    for item in given:
        if item not in pattern:
            for name, file in _named_values("--map", [item]).items():
                halves.setdefault(name, []).append(file)
    return files | {name: both[0] if len(both) == 1 else both for name, both in halves.items()}


def _named_numbers(option: str, items: list[str] | None) -> dict[str, float]:
    """NAME=NUMBER pairs; the last '=' counts, as names may be files."""
    named: dict[str, float] = {}
    for item in items or []:
        name, _, value = item.rpartition("=")
        try:
            named[name] = float(value)
        except ValueError:
            raise ValueError(f"{option} '{item}' is not NAME=NUMBER") from None
        if not name:
            raise ValueError(f"{option} '{item}' is not NAME=NUMBER")
    return named


def _named_values(option: str, items: list[str] | None) -> dict[str, str]:
    if wrong := [item for item in items or [] if "=" not in item]:
        raise ValueError(f"{option} '{wrong[0]}' is not NAME=VALUE")
    return {name: value for name, _, value in (item.partition("=") for item in items or [])}


@app.command()
def reproduce(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=FILE, prediction.fits of another run of this sky, for Fig. 8; may be repeated"),
    ] = None,
    regions: Annotated[
        Path | None, typer.Option(help="table of names and positions to show in Fig. 8 instead of the paper's")
    ] = None,
) -> None:
    """Set the paper's Table 1, Figs. 1 to 8 and numbers beside those of a run; stacks first where need be."""
    from szeek.show.report.reproduce import reproduce_run

    with _progress() as progress:
        page = reproduce_run(
            run_folder,
            models=_named_values("--model", model),
            regions=regions,
            progress=progress,
        )
    typer.echo(f"the paper's figures and numbers: {page}")


@app.command()
def view(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    port: Annotated[
        int | None, typer.Option(help="port on 127.0.0.1, 0 for any free one; default: the one that reports link to")
    ] = None,
    browser: Annotated[bool, typer.Option(help="open the page in the default browser")] = True,
    map: Annotated[
        list[str] | None, typer.Option("--map", "-m", help="NAME=FILE, another HEALPix map to show; may be repeated")
    ] = None,
) -> None:
    """Look at a run: the sky, the candidates and their verdicts, in the browser, on this machine only."""
    from szeek.show.explorer.server import serve

    if wrong := [item for item in map or [] if "=" not in item]:
        raise ValueError(f"--map '{wrong[0]}' is not NAME=FILE")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C is how a viewer ends, nothing is interrupted
    serve(run_folder, port, browser, {name: file for name, _, file in (item.partition("=") for item in map or [])})


@app.command()
def dossiers(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")],
    out: Annotated[Path, typer.Option("--out", "-o", help="zip file to write")] = Path("dossiers.zip"),
    p_min: Annotated[float | None, typer.Option(help="least p")] = None,
    purity_min: Annotated[float | None, typer.Option(help="least calibrated purity")] = None,
    snr_min: Annotated[float | None, typer.Option(help="least signal-to-noise ratio")] = None,
    lat_min: Annotated[float | None, typer.Option(help="least distance from the Galactic plane, degrees")] = None,
    matched: Annotated[str, typer.Option(help="'yes' or 'no': with or without a known cluster")] = "",
    kind: Annotated[str, typer.Option(help="what the spectrum looks like, as the catalogue's KIND has it")] = "",
    judged: Annotated[str, typer.Option(help="verdict given in the explorer, or 'none'")] = "",
    png: Annotated[bool, typer.Option("--png", help="sheets as PNG instead of PDF")] = False,
    most: Annotated[int | None, typer.Option(min=1, help="at most this many, highest p first")] = None,
) -> None:
    """Write a dossier of each candidate, cut-outs, spectrum, profile and numbers on one sheet, into a zip file."""
    from szeek.show.explorer.dossierset import write_dossiers
    from szeek.show.explorer.filters import Filters

    filters = Filters(p_min, purity_min, snr_min, lat_min, matched, kind, judged)
    with _progress() as progress:
        target = write_dossiers(
            run_folder, out, filters=filters, ending="png" if png else "pdf", n_most=most,
            progress=progress,
        )  # fmt: skip
    typer.echo(f"dossiers: {target}")


@app.command()
def config(
    source: Annotated[str, typer.Argument(metavar="CONFIG", help="a preset's name or a TOML file")] = "bonjean2020",
    presets: Annotated[bool, typer.Option("--presets", help="list the presets and the shipped models")] = False,
) -> None:
    """Print a configuration as resolved: a starting point for one's own TOML file."""
    from szeek.config import config_toml, list_presets, load_config

    if presets:
        typer.echo("\n".join(list_presets()))
        return
    typer.echo(config_toml(load_config(source)))


def _load(source: str, seed: int | None) -> Config:
    from szeek.config import load_config

    return load_config(source) if seed is None else load_config(source, seed=seed)


def _band_files(given: list[str]) -> dict[str, Path]:
    """BAND=FILE pairs, or one pattern with {band}, to a file per band of the instrument."""
    from szeek.inputs.instrument import read_instrument

    if len(given) == 1 and "{band}" in given[0]:
        return {band: Path(given[0].replace("{band}", band)) for band in read_instrument().band_names}
    files: dict[str, Path] = {}
    for item in given:
        band, equals, file = item.partition("=")
        if not equals:
            raise ValueError(f"--map '{item}' is neither BAND=FILE nor a single pattern with {{band}}")
        if band in files:
            raise ValueError(f"--map gives band {band} twice, '{files[band]}' and '{file}'; expected one file a band")
        files[band] = Path(file)
    return files


def _units(given: str | None) -> str | dict[str, str] | None:
    """One unit for all bands, or BAND=UNIT pairs parted by commas."""
    if given is None or "=" not in given:
        return given
    return _named_values("--unit", given.split(","))


def _resolved(given: list[str] | None) -> list[str]:
    """Files that may be given as NAME=FILE, by their absolute paths."""
    from szeek.config import named_file

    named = [named_file(text) for text in given or []]
    return [f"{name}={file.resolve()}" if name else str(file.resolve()) for name, file in named]


def _is_first_rank() -> bool:
    """False in all but one of the processes that torchrun starts: one is enough to talk."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _progress() -> Iterator[Progress]:
    """Progress bars with rate and time left on a terminal, one line per step elsewhere."""
    from rich import progress as bar
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        last: dict[str, str] = {}

        def plain(stage: str, done: int, total: int, text: str = "") -> None:
            tenth = f"{10 * done // total}" if total > 1 else text
            if last.get(stage) != tenth:
                last[stage] = tenth
                share = f"{100 * done // total:3d} % " if total > 1 else ""
                print(f"{stage:>8}: {share}{text}", file=sys.stderr, flush=True)

        yield plain
        return
    columns = (
        bar.TextColumn("{task.fields[stage]:>8}"),
        bar.BarColumn(),
        bar.TimeElapsedColumn(),
        bar.TimeRemainingColumn(),
        bar.TextColumn("{task.description}"),
    )
    with bar.Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int, text: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(text, stage=stage, total=None)
            bars.update(tasks[stage], completed=done, total=total or None, description=text)

        yield show


class _Interrupted(BaseException):
    """Ctrl-C, or a batch system's SIGTERM; its own class, because typer ends a KeyboardInterrupt without a word."""


def _interrupt(number: int, _: object) -> None:
    raise _Interrupted(number)


def main() -> None:
    """Run the command line; errors of the user's become one line, an interrupt leaves no broken file."""
    # no verb opens a window; a notebook hands down its own backend, which this environment need not have
    os.environ["MPLBACKEND"] = "agg"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        app()
    except _Interrupted as interrupt:
        typer.echo("szeek: interrupted; what is finished is whole, and the same command goes on from here", err=True)
        raise SystemExit(128 + interrupt.args[0]) from None
    except MemoryError as error:
        typer.echo(
            f"szeek: not enough memory ({error}); close other programs, or use maps of a lower nside", err=True
        )
        raise SystemExit(1) from None
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "cannot cache function" not in str(error):
            raise
        typer.echo(f"szeek: {fit_to_command(describe_error(error), app, sys.argv[1:])}", err=True)
        raise SystemExit(1) from None
