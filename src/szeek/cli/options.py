"""Options that several verbs share, and what their texts mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from szeek.config import Config

ConfigSource = Annotated[
    str, typer.Argument(metavar="CONFIG", help="a preset's name (see `szeek config`) or a TOML file")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", file_okay=False, writable=True, help="folder to write to; created if missing")
]
Seed = Annotated[int | None, typer.Option(min=0, help="overrides the configuration's seed")]
Threads = Annotated[int | None, typer.Option(min=1, help="threads to use; all cores by default, same results")]
Maps = Annotated[
    list[str],
    typer.Option(
        "--map",
        "-m",
        help="BAND=FILE, once per band, and one pattern with {band}, e.g. 'HFI_SkyMap_{band}_2048_R3.01_full.fits', "
        "for all others; for `predict` also the folder `maps` of a run",
    ),
]
Ivar = Annotated[
    list[str] | None,
    typer.Option(
        "--ivar",
        help="BAND=FILE, inverse variance of a pixel: of an image on the same pixels, or HEALPix; once per band",
    ),
]
Xray = Annotated[
    list[Path] | None,
    typer.Option(
        help="map of X-ray photons for a network that sees them: HEALPix FITS of counts or rates, or images of "
        "fields, each its own --xray"
    ),
]
Exposure = Annotated[
    list[str] | None,
    typer.Option(metavar="FILE|SECONDS", help="exposure of each --xray, on its pixels, in their order, or seconds"),
]
Catalogues = Annotated[
    list[str] | None,
    typer.Option(
        "--catalogue",
        "-c",
        help="file of known clusters, or PSZ2=FILE to let your own list stand in for that survey; may be given "
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
Instrument = Annotated[
    str | None,
    typer.Option(
        help="experiment whose bands the maps are in, by its name (see `szeek instruments`) or a TOML file of your "
        "own; several joined by '+'"
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


def load_configuration(source: str, seed: int | None, measure: bool) -> Config:
    """A preset or file with what the command line changes in it."""
    from szeek.config import load_config

    changes: dict[str, object] = {} if seed is None else {"seed": seed}
    if not measure:
        changes["measure"] = {"enabled": False}
    return load_config(source, **changes)


def given_sky(
    maps: list[str],
    catalogue: list[str] | None,
    column: list[str] | None,
    mask: list[str] | None,
    unit: str | None,
    frame: str | None,
    ordering: str | None,
    check: bool,
    instrument: str,
    ivar: list[str] | None = None,
) -> dict[str, object]:
    """The section ``sky`` of a configuration from what the command line gives; paths are absolute."""
    from szeek.config import anchor_instrument
    from szeek.inputs.instrument import read_instrument

    instrument = anchor_instrument(instrument, Path.cwd())
    bands = read_instrument(instrument).band_names
    stated = {"instrument": instrument, "unit": read_units(unit, bands), "frame": frame, "ordering": ordering}
    known = {"catalogues": resolve_files(catalogue), "columns": named_values("--column", column)}
    sky: dict[str, object] = {"simulate": False, "check": check, **known, **stated}
    if mask:  # else those of the configuration
        sky["masks"] = resolve_files(mask)
    if len(maps) == 1 and Path(maps[0]).is_dir():
        return {**sky, "saved_maps": str(Path(maps[0]).resolve())}
    weights = {band: str(Path(file).resolve()) for band, file in named_values("--ivar", ivar).items()}
    files = {band: str(file.resolve()) for band, file in band_files(maps, bands).items()}
    return {**sky, "maps": files, "ivar": weights}


def given_xray(xray: list[Path] | None, exposure: list[str] | None) -> dict[str, object]:
    """The table ``input.further.xray`` of a configuration from what the command line gives; paths are absolute."""
    if not xray and exposure:
        raise ValueError("--exposure is given without --xray, expected both")
    if xray and not exposure:
        raise ValueError(f"the exposure of '{xray[0]}' is not given; give --exposure, a map or seconds")
    seconds = [_seconds_or_file(text) for text in exposure or ()]
    return {"kind": "photons", "file": [str(file.resolve()) for file in xray or ()], "exposure": seconds}


def _seconds_or_file(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return str(Path(text).resolve())


def band_files(given: list[str], bands: Sequence[str]) -> dict[str, Path]:
    """BAND=FILE pairs, and one pattern with {band} for all bands without, to a file per band of the instrument.

    Examples
    --------
    >>> files = band_files(["f150=act.fits", "hfi_{band}.fits"], ("f150", "143", "217"))
    >>> [file.name for file in files.values()]
    ['act.fits', 'hfi_143.fits', 'hfi_217.fits']
    """
    patterns = [item for item in given if "{band}" in item]
    files: dict[str, Path] = {}
    for item in given:
        band, equals, file = item.partition("=")
        if item in patterns[:1]:
            continue
        if not equals or item in patterns:
            raise ValueError(f"--map '{item}' is neither BAND=FILE nor a single pattern with {{band}}")
        if band in files:
            raise ValueError(f"--map gives band {band} twice, '{files[band]}' and '{file}'; expected one file a band")
        files[band] = Path(file)
    for pattern in patterns:
        files |= {band: Path(pattern.replace("{band}", band)) for band in bands if band not in files}
    return files


def read_units(given: str | None, bands: Sequence[str]) -> str | dict[str, str] | None:
    """One unit for all bands, or BAND=UNIT pairs parted by commas."""
    if given is None or "=" not in given:
        return given
    named = named_values("--unit", given.split(","))
    if unknown := [name for name in named if name not in bands]:
        raise ValueError(f"--unit names the band {', '.join(unknown)}, expected one of {', '.join(bands)}")
    return named


def resolve_files(given: list[str] | None) -> list[str]:
    """Files that may be given as NAME=FILE, by their absolute paths."""
    from szeek.config import named_file

    named = [named_file(text) for text in given or []]
    return [f"{name}={file.resolve()}" if name else str(file.resolve()) for name, file in named]


def named_numbers(option: str, items: list[str] | None) -> dict[str, float]:
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


def named_values(option: str, items: list[str] | None) -> dict[str, str]:
    if wrong := [item for item in items or [] if "=" not in item]:
        raise ValueError(f"{option} '{wrong[0]}' is not NAME=VALUE")
    return {name: value for name, _, value in (item.partition("=") for item in items or [])}


def is_first_rank() -> bool:
    """False in all but one of the processes that torchrun starts: one is enough to talk."""
    return os.environ.get("RANK", "0") == "0"
