"""Every number of the method, in one typed, frozen tree; a preset is a TOML file of departures from it.

The defaults are those of Bonjean (2020) (preset ``bonjean2020``); a key that no section knows is refused.
"""

from __future__ import annotations

import math
import tomllib
from copy import deepcopy
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import healpy
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from szeek.physics.looks import ClusterLook
from szeek.sky.tiles import TEST_TILE, TILE_NSIDE, VALIDATION_TILES, Tiles


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FieldConfig(_Section):
    """A field that is simulated, a rectangle in right ascension and declination."""

    ra_deg: float | None = Field(None, ge=0, lt=360, description="centre of the field, or lon_deg and lat_deg")
    dec_deg: float | None = Field(None, ge=-80, le=80, description="centre of the field")
    lon_deg: float | None = Field(None, description="centre of the field in Galactic coordinates")
    lat_deg: float | None = Field(None, ge=-90, le=90, description="centre of the field in Galactic coordinates")
    width_deg: float = Field(25.0, ge=1, le=120, description="extent along right ascension, on the sky at the centre")
    height_deg: float = Field(25.0, ge=1, le=120, description="extent in declination")
    pixel_arcmin: float = Field(0.5, description="side of a pixel at the equator: 0.25, 0.5 or 1")
    observed: float = Field(
        1.0,
        ge=0.2,
        le=1,
        description="share of the height, from the south, that a survey from the ground covers; planck-hfi beside it "
        "covers all",
    )

    @model_validator(mode="after")
    def _one_centre(self) -> FieldConfig:
        equatorial, galactic = (self.ra_deg, self.dec_deg), (self.lon_deg, self.lat_deg)
        if (None in equatorial) == (None in galactic) or [*equatorial, *galactic].count(None) != 2:
            raise ValueError("no centre or two, expected either ra_deg and dec_deg or lon_deg and lat_deg")
        if self.pixel_arcmin not in (0.25, 0.5, 1.0):
            raise ValueError(f"pixel_arcmin is {self.pixel_arcmin:g}, expected 0.25, 0.5 or 1")
        dec_deg = self.centre_deg[1]
        if abs(dec_deg) + self.height_deg / 2 > 85:
            raise ValueError(
                f"the field about declination {dec_deg:g} is {self.height_deg:g} deg high, expected declinations "
                "within 85 deg of the equator; choose a lower or smaller field"
            )
        if self.width_deg / math.cos(math.radians(dec_deg)) > 300:
            raise ValueError(f"the field is {self.width_deg:g} deg wide at declination {dec_deg:g}; take a narrower")
        return self

    @property
    def centre_deg(self) -> tuple[float, float]:
        """Right ascension and declination."""
        if self.ra_deg is not None and self.dec_deg is not None:
            return self.ra_deg, self.dec_deg
        x, y, z = healpy.Rotator(coord=["G", "C"])(healpy.ang2vec(self.lon_deg, self.lat_deg, lonlat=True))
        return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.asin(z))


_MAP_KEYS = ("file", "ivar", "unit", "beam")


class SkyConfig(_Section):
    """The maps and the catalogues: files of the user's, or a simulated sky."""

    simulate: bool = Field(False, description="make the sky with the built-in simulation instead of reading files")
    nside: int = Field(2048, description="resolution of the simulated sky")
    field: FieldConfig | None = Field(
        None,
        description="simulate a field instead of a full sky: of planck-hfi in HEALPix pixels, of a survey from the "
        "ground in images with inverse variances",
    )
    companions: bool = Field(True, description="simulate X-ray, lensing and galaxy maps too, for stacks")
    clusters: ClusterLook = Field(
        ClusterLook(), description="how simulated clusters look: dust, temperature, radio, profile, y_slope, vary"
    )
    further_seeds: tuple[int, ...] = Field(
        (), description="seeds of more simulated skies; the training sees their patches in turn with the first one's"
    )
    instrument: str = Field(
        "planck-hfi",
        description="experiment whose bands the maps are in: one that ships (`szeek instruments`), a TOML file, or "
        "several joined by '+'; BAND=FILE among them is a band's beam as a table of l and b_l",
    )
    maps: dict[str, Path] = Field(
        default_factory=dict,
        description="map file of each band, by band name; or a table [sky.maps.BAND] of file, ivar, unit and beam",
    )
    ivar: dict[str, Path] = Field(
        default_factory=dict,
        description="inverse variance of a pixel, by band name: images on the maps' pixels, HEALPix of any nside",
    )
    unit: str | dict[str, str] | None = Field(
        None, description="brightness unit of the maps, of all or by band name, instead of what their headers say"
    )
    frame: Literal["galactic", "icrs", "ecliptic"] | None = Field(
        None, description="frame, likewise; also of masks whose headers do not say"
    )
    ordering: Literal["RING", "NESTED"] | None = Field(
        None, description="ordering, likewise; also of masks whose headers do not say"
    )
    catalogues: tuple[Path, ...] = Field(
        (), description="files of known clusters; as 'PSZ2=FILE' your own list stands in for that survey"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description='columns of the catalogues where their names do not tell, e.g. {redshift = "z_spec"}',
    )
    masks: tuple[Path, ...] = Field(
        (),
        description="HEALPix masks or images, 1 where the sky is to be used; as 'COLUMN=FILE' one column of several",
    )

    saved_maps: Path | None = Field(
        None, description="folder of maps that were read already (maps/ of a run), instead of map files"
    )
    y_maps: tuple[Path, ...] = Field((), description="Compton-y maps to show beside p; their mean")
    check: bool = Field(True, description="refuse maps whose bands do not belong together")

    @model_validator(mode="before")
    @classmethod
    def _spell_out_maps(cls, values: Any) -> Any:
        """A table for each band, [sky.maps.f090], as what it says of file, ivar, unit and beam (a table l, b_l)."""
        maps = values.get("maps") if isinstance(values, dict) else None
        if not isinstance(maps, dict):
            return values
        tables = {band: one for band, one in maps.items() if isinstance(one, dict)}
        if not tables:
            return values
        for band, one in tables.items():
            for key in set(one) - set(_MAP_KEYS):
                near = get_close_matches(str(key), _MAP_KEYS, 1)
                hint = f", did you mean '{near[0]}'?" if near else ""
                raise ValueError(f"maps.{band} has the unknown key '{key}', expected {', '.join(_MAP_KEYS)}{hint}")
            if "file" not in one:
                raise ValueError(f'maps.{band} names no file; give file = "..."')
        files = {band: one["file"] if band in tables else one for band, one in maps.items()}
        ivar = {band: one["ivar"] for band, one in tables.items() if "ivar" in one}
        unit, own = values.get("unit"), {band: one["unit"] for band, one in tables.items() if "unit" in one}
        if own:
            unit = {**(unit if isinstance(unit, dict) else dict.fromkeys(files, unit) if unit else {}), **own}
        beams = [f"{band}={one['beam']}" for band, one in tables.items() if "beam" in one]
        if beams:
            values = {**values, "instrument": "+".join([values.get("instrument", "planck-hfi"), *beams])}
        return {**values, "maps": files, "ivar": {**values.get("ivar", {}), **ivar}, "unit": unit}

    @model_validator(mode="after")
    def _one_sky(self) -> SkyConfig:
        if self.simulate and (self.maps or self.catalogues or self.saved_maps):
            raise ValueError("simulate is true and maps or catalogues are named, expected one of the two")
        if self.saved_maps and self.maps:
            raise ValueError(f"maps are named beside saved_maps ('{self.saved_maps}'), expected one of the two")
        if lonely := sorted(set(self.ivar) - set(self.maps)):
            raise ValueError(f"ivar names the band {', '.join(lonely)}, of which no map is given")
        if self.saved_maps and self.masks:
            raise ValueError(
                f"masks are given beside '{self.saved_maps}', which holds maps already read; expected map files"
            )
        return self


class SplitConfig(_Section):
    """Tiles (HEALPix, RING) kept out of the training. Bonjean (2020), Sect. 2."""

    nside: Literal[2, 4, 8, 16] = Field(
        2, description="size of the tiles: nside 2 of the whole sky; finer of a survey of a part of it, 8 is 7.3 deg"
    )
    test_tiles: tuple[int, ...] = Field((TEST_TILE,), description="tiles that only the assessment uses")
    validation_tiles: tuple[int, ...] = Field(
        VALIDATION_TILES, description="tiles whose patches decide which epoch is kept"
    )
    guard_deg: float = Field(0.0, ge=0, description="patches keep this much more away from test and validation tiles")
    folds: int = Field(
        0,
        ge=0,
        le=16,
        description="train this many networks, each with its share of the tiles of split.nside kept out, so that "
        "every pixel is predicted by one that never saw it; 0: one network and the tiles above",
    )

    @property
    def held_out(self) -> Tiles:
        """Tiles that are predicted by a network which was not trained on them."""
        every = tuple(range(12 * self.nside**2))
        return Tiles(every if self.folds else (*self.test_tiles, *self.validation_tiles), self.nside)

    @property
    def test(self) -> Tiles:
        """The test tiles."""
        return Tiles(self.test_tiles, self.nside)

    @property
    def validation(self) -> Tiles:
        """The validation tiles."""
        return Tiles(self.validation_tiles, self.nside)

    @property
    def training(self) -> Tiles:
        """All others than test and validation tiles."""
        kept = {*self.test_tiles, *self.validation_tiles}
        return Tiles(tuple(tile for tile in range(12 * self.nside**2) if tile not in kept), self.nside)

    @model_validator(mode="after")
    def _disjoint(self) -> SplitConfig:
        if self.folds in (1, 2):
            raise ValueError(f"folds is {self.folds}, expected 0 or at least 3: to test, validate and train on")
        both = sorted(set(self.test_tiles) & set(self.validation_tiles))
        n_tile = 12 * self.nside**2
        wrong = sorted(t for t in (*self.test_tiles, *self.validation_tiles) if not 0 <= t < n_tile)
        if both or wrong:
            raise ValueError(
                f"tiles {both or wrong} are in both test_tiles and validation_tiles"
                if both
                else f"tiles {wrong} do not exist, expected 0 to {n_tile - 1}"
            )
        return self


class FurtherConfig(_Section):
    """A map in other light that the network sees beside the bands; it can do without."""

    kind: Literal["photons", "density"] = Field(
        "photons",
        description="photons: X-rays, counted over the local background whatever the exposure; density: any other "
        "map, as of galaxies or convergence, less its local median over its scatter",
    )
    file: tuple[Path, ...] = Field(
        (),
        description="the map: counts or rates in HEALPix or images of fields, a density in HEALPix or a TAN image. "
        "Without it a simulated sky has its own, and any other goes without",
    )
    exposure: tuple[Path | Annotated[float, Field(gt=0)], ...] = Field(
        (), description="exposure of each map of photons, on its pixels, or seconds"
    )
    absent: float = Field(
        0.25, ge=0, lt=1, description="share of the training's patches that go without, for maps that lack it"
    )

    @field_validator("file", "exposure", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int | float | Path) else value

    @model_validator(mode="after")
    def _exposed(self) -> FurtherConfig:
        if self.kind == "photons" and len(self.exposure) not in ({1, len(self.file)} if self.file else {0}):
            raise ValueError(
                f"{len(self.exposure)} exposures are given for {len(self.file)} maps of photons, expected one for "
                "each, or one number of seconds"
            )
        if self.kind == "density" and (self.exposure or len(self.file) > 1):
            raise ValueError("a density is one file and has no exposure")
        return self


class InputConfig(_Section):
    """What the network sees of the maps."""

    kind: Literal["left-gaussian", "local-whitened"] = Field(
        "left-gaussian",
        description="left-gaussian: each band minus mean over sigma of the left half of its histogram (the paper); "
        "local-whitened: minus the local median, bands whitened together, asinh",
    )
    background_nside: int = Field(32, description="cell of the local median: nside 32 is 1.8 deg")
    theta500_arcmin: tuple[float, ...] = Field(
        (), description="sizes of matched-filter S/N maps that the network sees beside the bands"
    )
    further: dict[str, FurtherConfig] = Field(
        {},
        description="maps in other light that it sees as well, each a table [input.further.NAME] of kind, file, "
        "exposure and absent; 'xray' is that of a simulated sky",
    )

    @field_validator("further")
    @classmethod
    def _file_names(cls, further: dict[str, FurtherConfig]) -> dict[str, FurtherConfig]:
        if not all(name.isidentifier() for name in further):
            raise ValueError(f"expected names of letters and digits, found {', '.join(map(repr, further))}")
        return further


class LabelConfig(_Section):
    """What counts as a cluster in training."""

    selections: tuple[str, ...] = Field(("planck_z",), description="named selections of the catalogues")
    disc_arcmin: float = Field(5.0, gt=0, description="diameter of the disc that is 1 in the target")
    disc_theta500: float = Field(0.0, ge=0, description="diameter in theta500 where that is larger and known")
    class_disc_arcmin: float = Field(
        6.0, gt=0, description="diameter of the discs of network.classes, where an entry's own extent is no larger"
    )
    class_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="weight of a class's loss beside that of clusters; of all others 1"
    )
    targets: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        {}, description="target inside the discs of these selections; of all others 1"
    )
    ignore: tuple[str, ...] = Field((), description="selections whose discs count neither as cluster nor as sky")

    @model_validator(mode="after")
    def _targets_of_selections(self) -> LabelConfig:
        for name in self.targets:
            if name not in self.selections:
                raise ValueError(f"targets names '{name}', expected one of selections: {', '.join(self.selections)}")
        return self


class PatchConfig(_Section):
    """The training set. Bonjean (2020), Sect. 3.1: 100,000 patches of 64 x 64 pixels, 10 % of them validation."""

    n_patches: int = Field(100_000, gt=1, description="patches, those of the validation included")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="share of them that is validation")
    size: int = Field(64, ge=16, multiple_of=16, description="side of a patch in pixels")
    pixel_arcmin: float = Field(1.7177, gt=0, description="side of a pixel; that of nside 2048 by default")
    empty_fraction: float = Field(0.0, ge=0, lt=1, description="fraction of patches at random positions")
    mirror: bool = Field(False, description="mirror every second patch, beside the random orientation")
    fresh: bool = Field(False, description="new patches in every epoch instead of the same ones")

    @property
    def n_validation(self) -> int:
        """Number of validation patches."""
        return round(self.n_patches * self.validation_fraction)

    @property
    def n_training(self) -> int:
        """Number of training patches."""
        return self.n_patches - self.n_validation


class NetworkConfig(_Section):
    """The U-Net. Bonjean (2020), Sect. 3.2."""

    target: Literal["clusters", "foregrounds"] = Field(
        "clusters",
        description="what it learns: where clusters are, or what foregrounds and noise leave in a y map (`szeek ymap "
        "--model`), from simulated skies",
    )
    filters: tuple[int, ...] = Field((8, 16, 32, 64, 128), description="filters of each level, from the top down")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of the activations that training drops")
    batch_norm: bool = Field(False, description="normalise each layer over the batch")
    classes: tuple[str, ...] = Field(
        (),
        description="what else than clusters is told apart, a map of p each: names of surveys among the catalogues; "
        "'radio', 'dusty', 'clump' and 'co' are those of a simulated sky",
    )
    members: int = Field(
        1,
        ge=1,
        le=16,
        description="networks whose p are averaged; member k has the draws of seed + k, and the first sky with "
        "every members-th of the further ones from the k-th on",
    )

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len({"cluster", *classes}) <= len(classes) or not all(name.isidentifier() for name in classes):
            raise ValueError("expected different names of letters and digits; 'cluster' is always there")
        return classes


class TrainConfig(_Section):
    """Optimisation. Bonjean (2020), Sect. 3.2: Adam, 1e-4, batch 20, patience 12."""

    learning_rate: float = Field(1e-4, gt=0, description="of Adam; its maximum with the one-cycle schedule")
    schedule: Literal["constant", "one-cycle"] = Field(
        "constant", description="learning rate over the training: constant, or up and down once"
    )
    start_from: str = Field(
        "",
        description="trained network whose weights the training begins with, a shipped model's name or a folder; of "
        "the same bands and filters. Random weights where empty",
    )
    batch: int = Field(20, ge=1, description="patches in a step")
    shards: int = Field(2, ge=1, description="parts of a batch that are worked on at once, one core each")
    max_epochs: int = Field(200, ge=1, description="most epochs")
    patience: int = Field(12, ge=1, description="epochs without a lower validation loss after which training ends")
    bfloat16: bool = Field(False, description="mixed precision in training; prediction stays float32")
    checkpoint_s: float = Field(60.0, gt=0, description="time between checkpoints")


class PredictConfig(_Section):
    """Covering the sphere with fields."""

    margin: int = Field(16, ge=16, description="pixels around each field that are computed but not used")
    rotations: Literal[1, 2, 4, 8] = Field(1, description="orientations and flips of a field that are averaged")
    bfloat16: bool = Field(
        False,
        description="mixed precision where the processor multiplies bfloat16 (AVX512-BF16, AMX): p differs by some "
        "thousandths; float32 elsewhere",
    )


class DetectConfig(_Section):
    """From the p map to sources. Bonjean (2020), Sect. 3.3."""

    p_max: float = Field(0.1, gt=0, lt=1, description="threshold: sources are connected areas above it")
    deblend: bool = Field(
        False, description="separate neighbours that one connected area holds; positions weighted by p"
    )


class MeasureConfig(_Section):
    """From sources to candidates: photometry, kind, flags and identification."""

    enabled: bool = Field(True, description="measure the sources in the maps; else they are identified alone")
    galactic_mask: Path | None = Field(
        None, description="HEALPix mask, 1 outside the Galactic plane; default: by reddening"
    )
    pccs2: tuple[Path, ...] = Field((), description="files of the Planck catalogue of compact sources, one a band")
    pgcc: Path | None = Field(None, description="Planck catalogue of Galactic cold clumps")
    co_map: Path | None = Field(None, description="HEALPix map of the CO J=1-0 line in K km/s")


class AssessConfig(_Section):
    """Recovery and purity."""

    radius_arcmin: float = Field(
        5.0, gt=0, description="matching radius for HFI's beams; in proportion for narrower ones, 2.5 arcmin at least"
    )
    selections: tuple[str, ...] = Field(
        ("planck_z", "planck_no-z", "mcxcwp", "rm50", "rm30"),
        description="named selections of the catalogues whose recovered fraction is measured",
    )


class Config(_Section):
    """A whole run; see the sections."""

    preset: str = Field("bonjean2020", description="preset that the file changes; see `szeek config --presets`")
    seed: int = Field(1, ge=0, description="of the simulated sky, the patches and the training")
    model: str = Field(
        "", description="trained network to use instead of training one: a shipped model's name, or a folder"
    )
    sky: SkyConfig = SkyConfig()
    split: SplitConfig = SplitConfig()
    input: InputConfig = InputConfig()
    labels: LabelConfig = LabelConfig()
    patches: PatchConfig = PatchConfig()
    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    predict: PredictConfig = PredictConfig()
    detect: DetectConfig = DetectConfig()
    measure: MeasureConfig = MeasureConfig()
    assess: AssessConfig = AssessConfig()

    @model_validator(mode="after")
    def _weights_of_classes(self) -> Config:
        for name in self.labels.class_weights:
            if name not in self.network.classes:
                known = ", ".join(self.network.classes) or "none"
                raise ValueError(f"labels.class_weights names '{name}', expected one of network.classes: {known}")
        return self

    @model_validator(mode="after")
    def _of_foregrounds(self) -> Config:
        if self.network.target == "foregrounds":
            unread = {
                "network.classes": self.network.classes,
                "network.members": self.network.members > 1,
                "split.folds": self.split.folds,
                "input.theta500_arcmin": self.input.theta500_arcmin,
                "input.further": self.input.further,
                "train.start_from": self.train.start_from,
            }
            if given := [name for name, value in unread.items() if value]:
                raise ValueError(f"network.target is 'foregrounds', which has no use for {', '.join(given)}")
        return self

    @model_validator(mode="after")
    def _other_skies(self) -> Config:
        seeds = (self.seed, *self.sky.further_seeds)
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"sky.further_seeds {list(seeds[1:])} and seed {self.seed} name one sky twice")
        return self


def list_presets() -> list[str]:
    """Names of the presets that ship with the package."""
    folder = resources.files("szeek") / "presets"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def load_config(source: str | Path, **changes: Any) -> Config:
    """Read a preset by name or a TOML file by path.

    A file names with ``preset`` the preset whose values it changes key by key (``bonjean2020`` where it names none);
    presets themselves are files of this form. ``changes`` go on top.

    Parameters
    ----------
    source : str or Path
        A preset's name (see :func:`list_presets`) or the path of a TOML file. Relative paths in a file
        are relative to the file.
    **changes
        Sections or values, e.g. ``seed=2`` or ``train={"max_epochs": 3}``.

    Raises
    ------
    ValueError
        If the preset does not exist, or a key or value is refused; the message names file and key.
    FileNotFoundError
        If the file does not exist.

    Examples
    --------
    >>> load_config("bonjean2020").patches.n_training
    90000
    >>> load_config("bonjean2020", train={"batch": 8}).train.batch
    8
    """
    if str(source) in list_presets():
        values = _read_preset(str(source))
        origin = f"preset '{source}'"
    else:
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(
                f"'{source}' is neither a file nor a preset; presets are {', '.join(list_presets())}"
            )
        try:
            own = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"'{path}' is no valid TOML: {error}") from None
        origin = f"'{path}'"
        preset = own.get("preset", "bonjean2020")
        if preset not in list_presets():
            raise ValueError(f"{origin}: preset '{preset}' is unknown, expected one of {', '.join(list_presets())}")
        base = _without_targets(_without_simulation(_read_preset(preset), own), own)
        values = _merge(base, _anchor(own, path.parent))
    try:
        return Config.model_validate(_merge(_without_targets(values, changes), changes))
    except ValidationError as error:
        raise ValueError(f"{origin} is refused: {describe_refusal(error)}") from None


def config_toml(config: Config) -> str:
    """The configuration as resolved, as a TOML file that :func:`load_config` reads."""
    return tomli_w.dumps(_without_none(config.model_dump(mode="json")))


#: Options that were not there once, with what they are where they are not used.
_LATER: tuple[tuple[str, str, Any], ...] = (
    ("sky.field", "observed", 1.0),
    ("split", "nside", TILE_NSIDE),
    ("input", "further", {}),
    ("network", "classes", []),
    ("network", "target", "clusters"),
    ("labels", "class_disc_arcmin", 6.0),
    ("labels", "class_weights", {}),
    ("train", "start_from", ""),
)


def without_defaults(record: dict[str, Any]) -> dict[str, Any]:
    """A configuration as JSON, less the options that were added later and are not used: runs of before go on."""
    kept = deepcopy(record)
    for section, name, default in _LATER:
        options = kept
        for part in section.split("."):
            options = options.get(part) or {}
        if options.get(name) == default:
            del options[name]
    return kept


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value


def describe_refusal(error: ValidationError) -> str:
    """What pydantic refuses, in one line; of an unknown key also the nearest that there is."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        hint = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            near = get_close_matches(str(item["loc"][-1]), _known_keys(item["loc"][:-1]), 1)
            hint = "unknown key" + (f", did you mean '{near[0]}'?" if near else "")
        found = "" if isinstance(item["input"], dict) else f" (found {item['input']!r})"
        lines.append(f"{key}: {hint}{found}" if key else hint)
    return "; ".join(lines)


def _known_keys(section: tuple[int | str, ...]) -> list[str]:
    model = Config.model_fields.get(str(section[0])) if section else None
    return list((type(model.default) if model is not None else Config).model_fields)


def named_file(text: str | Path) -> tuple[str | None, Path]:
    """Name and file of what is given as 'NAME=FILE', a survey's catalogue or a mask's column; or a file's name alone.

    Examples
    --------
    >>> named_file("PSZ2=mocks/a.csv")
    ('PSZ2', PosixPath('mocks/a.csv'))
    >>> named_file("a.csv")
    (None, PosixPath('a.csv'))
    """
    name, equals, file = str(text).partition("=")
    if not equals or not name.isidentifier() or Path(text).is_file():
        return None, Path(text)
    return name, Path(file)


def _read_preset(name: str) -> dict[str, Any]:
    values = tomllib.loads((resources.files("szeek") / "presets" / f"{name}.toml").read_text())
    base = values.get("preset")
    return {**(_merge(_read_preset(base), values) if base else values), "preset": name}


def _without_simulation(preset: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The preset for a file with maps or catalogues of its own: the sky that the preset simulates is not meant."""
    sky = own.get("sky")
    files = isinstance(sky, dict) and (sky.get("maps") or sky.get("catalogues"))
    return _merge(preset, {"sky": {"simulate": False}}) if files else preset


def _without_targets(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """What is changed where other clusters are chosen: the targets of the old selections are not meant."""
    labels = changes.get("labels")
    if not isinstance(labels, dict) or "selections" not in labels or "labels" not in base:
        return base
    return {**base, "labels": {key: value for key, value in base["labels"].items() if key != "targets"}}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _anchor(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of a file relative to that file: those of its sections, and its model."""
    model = values.get("model")
    if isinstance(model, str) and model and (folder / model).is_dir():
        values = {**values, "model": str(folder / model)}
    train = values.get("train")
    if isinstance(train, dict) and train.get("start_from") and (folder / str(train["start_from"])).is_dir():
        values = {**values, "train": {**train, "start_from": str(folder / train["start_from"])}}
    measure = values.get("measure")
    if isinstance(measure, dict):
        single = {key: str(folder / measure[key]) for key in ("galactic_mask", "pgcc", "co_map") if key in measure}
        listed = {"pccs2": [str(folder / file) for file in measure["pccs2"]]} if "pccs2" in measure else {}
        values = {**values, "measure": {**measure, **single, **listed}}
    seen = values.get("input")
    if isinstance(seen, dict) and isinstance(seen.get("further"), dict):
        values = {**values, "input": {**seen, "further": _anchor_further(seen["further"], folder)}}
    sky = values.get("sky")
    if not isinstance(sky, dict):
        return values
    anchored = dict(sky)
    if isinstance(sky.get("saved_maps"), str):
        anchored["saved_maps"] = str(folder / sky["saved_maps"])
    if isinstance(sky.get("instrument"), str):
        anchored["instrument"] = anchor_instrument(sky["instrument"], folder)
    if isinstance(sky.get("y_maps"), list):
        anchored["y_maps"] = [str(folder / file) for file in sky["y_maps"]]
    if isinstance(sky.get("maps"), dict):
        anchored["maps"] = {
            band: {key: text if key == "unit" else str(folder / text) for key, text in one.items()}
            if isinstance(one, dict)
            else str(folder / one)
            for band, one in sky["maps"].items()
        }
    if isinstance(sky.get("ivar"), dict):
        anchored["ivar"] = {band: str(folder / file) for band, file in sky["ivar"].items()}
    for key in ("catalogues", "masks"):
        if isinstance(sky.get(key), list):
            named = [named_file(str(text)) for text in sky[key]]
            anchored[key] = [f"{name}={folder / file}" if name else str(folder / file) for name, file in named]
    return {**values, "sky": anchored}


def _anchor_further(further: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Further maps with the paths of their files relative to the folder; a number of seconds is no path."""
    anchored = {}
    for name, one in further.items():
        anchored[name] = dict(one) if isinstance(one, dict) else one
        for key in ("file", "exposure") if isinstance(one, dict) else ():
            given = one.get(key, [])
            listed = given if isinstance(given, list) else [given]
            anchored[name][key] = [str(folder / text) if isinstance(text, str) else text for text in listed]
    return anchored


def anchor_instrument(instrument: str, folder: Path) -> str:
    """An experiment, or several joined by '+', with the paths of its files relative to the folder."""
    if (folder / instrument).is_file():
        return str(folder / instrument)
    anchored = []
    for part in instrument.split("+"):
        band, equals, file = part.partition("=")
        if equals:
            anchored.append(f"{band}={folder / file}")
        else:
            anchored.append(str(folder / part) if part.endswith((".toml", ".json")) else part)
    return "+".join(anchored)
