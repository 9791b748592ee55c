"""What a run leaves behind: the name of every product, what it is, and how it is read. The one place that knows.

Stages and verbs name products by the constants here; :data:`PRODUCTS` says of each what it holds and which command
writes it. A folder may *continue* another one: its record then names products that are read from there (``linked``).
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from szeek.config import Config
from szeek.files import write_json
from szeek.inputs.fits_files import parse_part
from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import list_sources, read_candidates
from szeek.physics.instrument import Instrument
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TEST_TILE, TILE_NSIDE, Tiles

if TYPE_CHECKING:
    from szeek.assess.calibrate import Calibration
    from szeek.assess.detections import DetectionCurve
    from szeek.assess.selection import PositionErrors, Selection
    from szeek.assess.witness import XrayPurity
    from szeek.measure.fluxes import FluxCorrection

RECORD = "run.json"
CONFIG = "config.toml"
SIMULATED = "simulated"
SIMULATION_RECORD = "simulated/simulate.json"
TRUTH = "simulated/truth.fits"
SIMULATED_CLASSES = "simulated/classes.fits"
SIMULATED_Y_MAP = "simulated/y_map.fits"
MAPS = "maps"
FILTERED = "maps/filter.json"
STATES = "maps/states.safetensors"
COMPACT = "maps/compact.fits"
NOISE = "maps/noise.fits"
NOISE_AREAS = "maps/noise.ecsv"
CLUSTERS = "clusters.fits"
WEIGHTS = "model.safetensors"
MODEL_CARD = "model.json"
CHECKPOINT = "checkpoint.safetensors"
PREDICTION = "prediction.fits"
CLASSES = "classes"
CLASS_CALIBRATION = "class-calibration.ecsv"
CLASS_SOURCES = "class-sources.fits"
CALIBRATION = "calibration.ecsv"
POSITIONS = "positions.ecsv"
FLUXES = "fluxes.ecsv"
DETECTIONS = "detections.ecsv"
SOURCES = "sources.fits"
PHOTOMETRY = "photometry.fits"
CANDIDATES = "candidates.fits"
CANDIDATES_CSV = "candidates.csv"
RECOVERY = "recovery.ecsv"
ASSESSMENT = "assessment.json"
SELECTION = "selection.fits"
PURITY = "purity.ecsv"
EVIDENCE = "evidence.fits"
XRAY_PURITY = "xray.json"
MASSES = "masses.fits"
EXPORTS = "exports"
MOCKS = "mocks"
STACKS = "stacks"
STACKS_RECORD = "stacks/stacks.json"
Y_FROM_P = "stacks/y_from_p.fits"
Y_MAP = "y_map.fits"
Y = "y.fits"
FIELDS = "fields"
FIELD_RECORD = "field.json"
FIGURES = "figures"
REPORT = "report.html"
REPRODUCTION = "reproduce"
REPRODUCTION_PAGE = "reproduce.html"
REPRODUCTION_TABLE = "reproduce.ecsv"
VERDICTS = "verdicts.sqlite"

#: The y map that is shown is the first of these.
_Y_MAPS = (Y_MAP, Y, SIMULATED_Y_MAP)
#: Resolution at which fine maps of a part of the sky are shown whole.
SHOWN_NSIDE = 2048


class Product(NamedTuple):
    """A file or folder of a run: what it holds and the command that writes it."""

    holds: str
    command: str


#: Every product by its name in the folder.
PRODUCTS: dict[str, Product] = {
    RECORD: Product("configuration as resolved, versions, seed, checksums of inputs, timings", "szeek run"),
    CONFIG: Product("configuration as resolved, to be run again", "szeek run"),
    SIMULATED: Product("simulated sky with its truth and mock catalogues", "szeek run --until sky"),
    SIMULATION_RECORD: Product("what was simulated: configuration, files, timings", "szeek run --until sky"),
    TRUTH: Product("every halo of the simulated sky", "szeek run --until sky"),
    SIMULATED_CLASSES: Product("sources, cold clumps and CO of the simulated sky, by class", "szeek run --until sky"),
    SIMULATED_Y_MAP: Product("Compton y of the simulated sky, an ILC of its maps", "szeek run --until sky"),
    MAPS: Product("frequency maps as read, and their S/N maps, memory-mapped", "szeek run --until filter"),
    STATES: Product("what the matched filter has learnt of each field, to measure with", "szeek run --until filter"),
    FILTERED: Product("sizes and settings of the S/N maps", "szeek run --until filter"),
    COMPACT: Product("compact sources in each band of the maps", "szeek run --until filter"),
    NOISE: Product("error of Y500 by the matched filter, by size and position", "szeek run --until filter"),
    NOISE_AREAS: Product("area of the sky against that error", "szeek run --until filter"),
    CLUSTERS: Product("known clusters", "szeek run --until maps, or szeek predict --catalogue"),
    WEIGHTS: Product("weights of the network", "szeek train"),
    MODEL_CARD: Product("the network's card: preset, bands, tiles trained on, seed, training curve", "szeek train"),
    CHECKPOINT: Product("state of a training that is not finished", "szeek train"),
    PREDICTION: Product("p, HEALPix NESTED, Galactic, UNSEEN outside the footprint", "szeek predict"),
    CLASSES: Product(
        "p of each further class of the network, a map each like prediction.fits", "szeek predict with such a network"
    ),
    CLASS_SOURCES: Product("sources of each of these classes, with fluxes", "szeek predict with such a network"),
    CLASS_CALIBRATION: Product("probability of each of these classes against p", "szeek run on a simulated sky"),
    CALIBRATION: Product("purity against p", "szeek run on a simulated sky"),
    POSITIONS: Product("position errors against p", "szeek selection"),
    DETECTIONS: Product("share of clusters found against their S/N in the maps", "szeek selection"),
    FLUXES: Product("correction of fluxes against S/N", "szeek selection"),
    SOURCES: Product("sources above the threshold, before they are measured", "szeek detect"),
    CANDIDATES: Product("candidate catalogue, also as .vot, .reg and .md", "szeek detect"),
    CANDIDATES_CSV: Product("the same catalogue as text", "szeek detect"),
    PHOTOMETRY: Product("all photometry of the candidates", "szeek photometry"),
    RECOVERY: Product("recovered fractions with binomial errors and chance rate", "szeek assess"),
    ASSESSMENT: Product("completeness and purity against the truth of a simulated sky", "szeek run"),
    SELECTION: Product("completeness against flux, size and position", "szeek selection"),
    PURITY: Product("purity from null skies and known clusters", "szeek purity"),
    XRAY_PURITY: Product("probability of a cluster from PURITY and X-rays", "szeek evidence of a simulated run"),
    EVIDENCE: Product("what X-rays, galaxies and catalogues say of each candidate", "szeek evidence"),
    MASSES: Product("masses of several definitions, and M(z) of each candidate", "szeek masses"),
    EXPORTS: Product("catalogue and selection in the formats of likelihood codes", "szeek export"),
    MOCKS: Product("mock catalogues of the survey, without maps", "szeek mock"),
    STACKS: Product("stacked maps with nulls, profiles, spectra", "szeek stack"),
    STACKS_RECORD: Product("what was stacked: samples, maps, numbers of objects", "szeek stack"),
    Y_FROM_P: Product("Compton y as predicted from p by the fitted relation", "szeek stack"),
    Y_MAP: Product("Compton y map shown beside p, where you put one into the folder", "your own"),
    Y: Product("Compton y and its error at 10 arcmin, columns Y and SIGMA_Y", "szeek ymap"),
    FIELDS: Product("small fields shown in the report, a folder each", "szeek predict"),
    FIELD_RECORD: Product("in fields/NAME/: where that field is and what is shown of it", "szeek predict"),
    FIGURES: Product("figures of the report as PNG and PDF", "szeek report"),
    REPORT: Product("one self-contained page", "szeek report"),
    REPRODUCTION_PAGE: Product("the paper's figures and numbers beside the run's", "szeek reproduce"),
    REPRODUCTION: Product("the paper's figures as made from the run", "szeek reproduce"),
    REPRODUCTION_TABLE: Product("the paper's numbers beside the run's", "szeek reproduce"),
    VERDICTS: Product("verdicts given in the explorer", "szeek view"),
}


class RunFolder:
    """The products of one run, each read where it is there and None where it is not.

    Parameters
    ----------
    folder : path

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        if not self.path.is_dir():
            raise NotADirectoryError(f"'{self.path}' is not a folder; expected the folder of a run of `szeek run`")

    # --- where products are -------------------------------------------------------------------------------

    @cached_property
    def linked(self) -> dict[str, str]:
        """Products that are read from another folder, as the record names them."""
        return dict(self.json(RECORD).get("linked") or {})

    def facts(self, stage: str) -> dict[str, Any]:
        """What a stage found, as the record keeps it; empty where it was not done."""
        return dict((self.json(RECORD).get("stages") or {}).get(stage) or {})

    def file(self, product: str) -> Path:
        """Path of a product, its own or the one that the record links to."""
        own = self.path / product
        if own.exists():
            return own
        top, _, rest = product.partition("/")
        for name in (product, top):
            if name in self.linked:
                return Path(self.linked[name], *([rest] if name != product else []))
        return own

    def has(self, product: str) -> bool:
        """Whether a product is there."""
        return parse_part(self.file(product)).path.exists()

    def need(self, *products: str) -> None:
        """Refuse a folder without these products.

        Raises
        ------
        FileNotFoundError
            Names the product and the command that writes it.
        """
        for product in products:
            if not self.has(product):
                about = PRODUCTS[product]
                raise FileNotFoundError(
                    f"'{self.path}' has no {product} ({about.holds}), expected the folder of a run; "
                    f"`{about.command}` makes it"
                )

    # --- readers ------------------------------------------------------------------------------------------

    def json(self, product: str) -> dict[str, Any]:
        """A JSON product; empty where there is none."""
        file = self.path / product if product == RECORD else self.file(product)
        if not file.is_file():
            return {}
        try:
            content = json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"'{file}' is not valid JSON ({error}); run the stage that writes it again") from error
        if not isinstance(content, dict):
            raise ValueError(f"'{file}' holds a {type(content).__name__}, expected an object with named entries")
        return content

    def table(self, product: str, extension: str | None = None) -> Table | None:
        """A table product (FITS, ECSV, VOTable or CSV), or None; text columns as str, missing text as ''.

        Of a FITS file with several tables the ``extension``, None where it has not that one.
        """
        file = self.file(product)
        if not file.is_file():
            return None
        if extension is not None:
            with fits.open(file) as hdus:
                if extension not in hdus:
                    return None
        table = Table.read(file) if extension is None else Table.read(file, hdu=extension)
        for column in table.colnames:
            values = table[column]
            if values.dtype.kind in "SU":
                table[column] = np.char.strip(
                    np.asarray(values.filled("") if hasattr(values, "filled") else values, str)
                )
            elif values.dtype.kind == "f":
                table[column] = np.asarray(np.ma.filled(np.ma.asarray(values), np.nan), values.dtype)
        return table

    def healpix(self, product: str, *, nested: bool) -> NDArray[np.float32] | None:
        """A HEALPix FITS product in the wanted ordering, NaN for UNSEEN; None where there is none."""
        file = self.file(product)
        if not file.is_file():
            return None
        values = np.asarray(healpy.read_map(file, nest=nested, dtype=np.float32))
        values[(values == np.float32(healpy.UNSEEN)) | ~np.isfinite(values)] = np.nan
        return values

    @cached_property
    def stated(self) -> dict[str, Any]:
        """The configuration as far as the folder states it: the record's, and what only the model's card says."""
        return {**(self.json(MODEL_CARD).get("config") or {}), **(self.json(RECORD).get("config") or {})}

    @property
    def config(self) -> Config:
        """The run's configuration; the defaults where the folder states none."""
        return Config.model_validate(self.stated)

    @cached_property
    def instrument(self) -> Instrument:
        """The experiment whose maps these are, from the model's card, or by its name in the configuration."""
        kept = self.json(MODEL_CARD).get("instrument")
        return read_instrument(kept if isinstance(kept, dict) else self.config.sky.instrument)

    @property
    def title(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def p_max(self) -> float:
        """Threshold of the run's detection, or of the field that was predicted; 0.1 where neither is stated."""
        said = [field.json(FIELD_RECORD).get("p_max") for field in self.fields]
        return float((self.stated.get("detect") or {}).get("p_max") or next(filter(None, said), 0.1))

    @property
    def is_simulated(self) -> bool | None:
        """Whether the sky was simulated; None where the folder does not say."""
        flag = (self.stated.get("sky") or {}).get("simulate")
        return None if flag is None else bool(flag)

    @property
    def given_model(self) -> str:
        """The network that the run was given, a shipped model's name or a folder; empty where it trained its own."""
        return str(self.stated.get("model") or "")

    @property
    def held_out(self) -> dict[str, tuple[int, ...]]:
        """Sky tiles kept out of the training as 'test' and 'validation'; empty where the folder does not say.

        With folds no network is kept from these; what each was kept from is in the catalogue's FOLD.
        """
        if self.folds:
            return {}
        split = self.stated.get("split") or {}
        names = {"test": "test_tiles", "validation": "validation_tiles"}
        return {use: tuple(int(tile) for tile in split[name]) for use, name in names.items() if name in split}

    @property
    def folds(self) -> int:
        """Number of networks that share the sky, each kept from the tiles that it predicts; 0 for one network."""
        return int((self.stated.get("split") or {}).get("folds", 0))

    @property
    def tile_nside(self) -> int:
        """Size of the tiles that are held out."""
        return int((self.stated.get("split") or {}).get("nside", TILE_NSIDE))

    @property
    def test_tile(self) -> int:
        """The first sky tile held out for testing; the paper's where the folder does not say."""
        return next(iter((self.stated.get("split") or {}).get("test_tiles") or ()), TEST_TILE)

    @property
    def test_sky(self) -> Tiles:
        """The first tile held out for testing, as a region."""
        return Tiles((self.test_tile,), self.tile_nside)

    @property
    def radius_arcmin(self) -> float:
        """Radius of the assessment's matches, for the beams at hand; 5 arcmin where the folder does not say."""
        from szeek.measure.pairs import beam_radius  # loads scipy's trees, which the rest does without

        stated = float((self.stated.get("assess") or {}).get("radius_arcmin", 5.0))
        return beam_radius(stated, self.maps.bands if self.maps is not None else self.instrument.bands)

    @cached_property
    def candidates(self) -> Table | None:
        """The candidates, highest p first; columns named as in a source table (``lon_deg``, ``p`` ...)."""
        if not self.has(CANDIDATES):
            return None
        table = list_sources(read_candidates(self.file(CANDIDATES)))
        return table[np.argsort(-np.asarray(table["p"], float), kind="stable")]

    @cached_property
    def clusters(self) -> Table | None:
        """The known clusters that the run was compared with, in the common catalogue columns.

        Entries of surveys that the network's further classes are named after are no clusters.
        """
        table = self.table(CLUSTERS)
        others = list((self.stated.get("network") or {}).get("classes") or ())
        if table is None or not others or "survey" not in table.colnames:
            return table
        return table[~np.isin(np.char.lower(np.asarray(table["survey"], str)), np.char.lower(others))]

    @cached_property
    def evidence(self) -> Table | None:
        """What other light says of each candidate, columns as in the file; None where it was not measured."""
        return self.table(EVIDENCE, "EVIDENCE")

    @property
    def calibration(self) -> Calibration | None:
        """Purity against p, where it was measured."""
        from szeek.assess.calibrate import Calibration  # loads numba, which the rest does without

        return Calibration.from_table(Table.read(self.file(CALIBRATION))) if self.has(CALIBRATION) else None

    @property
    def classes(self) -> tuple[str, ...]:
        """Further classes of the network whose maps are there."""
        names = (self.json(MODEL_CARD).get("network") or {}).get("classes", ())
        return tuple(name for name in names if self.has(f"{CLASSES}/{name}.fits"))

    @property
    def class_maps(self) -> dict[str, NDArray[np.float32] | PartialMap]:
        """p of each further class of the network, by its name; empty where the network knows clusters alone."""
        from szeek.find.predict import read_prediction  # loads PyTorch, which the rest does without

        return {name: read_prediction(self.file(f"{CLASSES}/{name}.fits")) for name in self.classes}

    @property
    def class_calibrations(self) -> dict[str, Calibration]:
        """Probability against p of each further class, where it was measured."""
        from szeek.assess.classes import split_calibrations  # loads numba, which the rest does without

        return split_calibrations(Table.read(self.file(CLASS_CALIBRATION))) if self.has(CLASS_CALIBRATION) else {}

    @property
    def xray_purity(self) -> XrayPurity | None:
        """The second stage: the run's own, or that of the network that it was given; None where there is none."""
        from szeek.assess.witness import XrayPurity  # loads scipy, which the rest does without

        file = self.file(XRAY_PURITY)
        if not file.is_file() and self.given_model:
            from szeek.learn.model import find_model  # loads PyTorch, which the rest does without

            try:
                file = find_model(self.given_model) / XRAY_PURITY
            except FileNotFoundError:  # the network was moved since
                return None
        return XrayPurity.read(file) if file.is_file() else None

    @property
    def position_errors(self) -> PositionErrors | None:
        """Position errors against p, where they were measured."""
        from szeek.assess.selection import PositionErrors  # loads numba, which the rest does without

        return PositionErrors.from_table(Table.read(self.file(POSITIONS))) if self.has(POSITIONS) else None

    @property
    def selection(self) -> Selection | None:
        """Completeness, where it was measured."""
        from szeek.assess.selection import Selection  # loads numba, which the rest does without

        return Selection.read(self.file(SELECTION)) if self.has(SELECTION) else None

    @property
    def detection_curve(self) -> DetectionCurve | None:
        """Share of clusters found against their S/N, where it was measured."""
        from szeek.assess.detections import DetectionCurve  # loads numba, which the rest does without

        return DetectionCurve.from_table(Table.read(self.file(DETECTIONS))) if self.has(DETECTIONS) else None

    @property
    def flux_correction(self) -> FluxCorrection | None:
        """Correction of fluxes, where it was measured."""
        from szeek.measure.fluxes import FluxCorrection  # loads scipy's interpolation, which the rest does without

        return FluxCorrection.from_table(Table.read(self.file(FLUXES))) if self.has(FLUXES) else None

    @cached_property
    def p_map(self) -> NDArray[np.float32] | PartialMap | None:
        """The p map at its own resolution: (12 nside^2,) float32 RING, or a partial map of a part of the sky."""
        if self._is_fine_part:
            from szeek.find.predict import read_prediction  # loads PyTorch, which the rest does without

            return read_prediction(self.file(PREDICTION))
        return self.p_ring

    @cached_property
    def _is_fine_part(self) -> bool:
        """Whether the p map lists its pixels and is finer than what is shown of the whole sky."""
        file = self.file(PREDICTION)
        header = fits.getheader(file, 1) if file.is_file() else {}
        return header.get("INDXSCHM") == "EXPLICIT" and int(header.get("NSIDE", 0)) > SHOWN_NSIDE

    @cached_property
    def p_nested(self) -> NDArray[np.float32] | None:
        """The p map to be shown: (12 nside^2,) float32 NESTED, NaN outside the footprint.

        Of a part of the sky at a finer nside the largest p in each pixel of nside 2048.
        """
        if not self._is_fine_part:
            return self.healpix(PREDICTION, nested=True)
        part = self.p_map
        assert isinstance(part, PartialMap)
        shown = np.full(12 * SHOWN_NSIDE**2, np.nan, np.float32)
        parents = healpy.ring2nest(part.nside, part.ipix) // (part.nside // SHOWN_NSIDE) ** 2
        np.fmax.at(shown, parents, part.values)
        return shown

    @cached_property
    def p_ring(self) -> NDArray[np.float32] | None:
        """The p map to be shown, in RING order."""
        return None if self.p_nested is None else np.asarray(healpy.reorder(self.p_nested, n2r=True))

    @cached_property
    def y_nested(self) -> NDArray[np.float32] | None:
        """The y map put into the folder, the run's or its simulated sky's: (12 nside^2,) float32 NESTED."""
        return next((self.healpix(name, nested=True) for name in _Y_MAPS if self.has(name)), None)

    @cached_property
    def y_ring(self) -> NDArray[np.float32] | None:
        """The y map in RING order."""
        return None if self.y_nested is None else np.asarray(healpy.reorder(self.y_nested, n2r=True))

    @cached_property
    def y_fwhm_arcmin(self) -> float:
        """Beam of the y map as its header has it (FWHM), 0 where it does not say."""
        for name in _Y_MAPS:
            if (file := self.file(name)).is_file():
                return float(fits.getheader(file, 1).get("FWHM", 0.0))
        return 0.0

    @cached_property
    def maps(self) -> SkyMaps | MapSet | None:
        """The frequency maps, memory-mapped, where the run kept them."""
        return open_maps(self.file(MAPS)) if self.has(MAPS) else None

    @property
    def fields(self) -> list[RunFolder]:
        """Small fields kept with the run (fields/NAME/), by name."""
        return [RunFolder(file.parent) for file in sorted(self.path.glob(f"{FIELDS}/*/{FIELD_RECORD}"))]


def continue_folder(
    source: RunFolder, out: str | os.PathLike[str], names: tuple[str, ...], *, prediction: Path | None = None
) -> None:
    """Start a folder that reads products of another one; nothing is copied.

    Parameters
    ----------
    source : RunFolder
        Folder to continue.
    out : path
        Folder to start; created if missing.
    names : tuple of str
        Products that are read in ``source`` where it has them.
    prediction : Path, optional
        A map of p to read instead of the source's.
    """
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    linked = {name: str(source.file(name).resolve()) for name in names if source.has(name)}
    if prediction is not None:
        linked[PREDICTION] = str(prediction.resolve())
    write_json({"linked": linked, "stages": {}}, target / RECORD)
