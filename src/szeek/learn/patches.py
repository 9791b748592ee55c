"""Training patches, cut as they are needed: patch i of a run is a pure function of (seed, i)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.config import PatchConfig, SplitConfig
from szeek.learn.normalise import local_background
from szeek.sky.further import N_COLUMN, Kind
from szeek.sky.mapset import MapSet, sees
from szeek.sky.projection import field_basis, sample_field
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles, pixels_in_tiles, pixels_near_tiles

#: Resolution at which allowed patch centres are kept: 14 arcmin.
_CENTRE_NSIDE = 256
#: Centres within such a cell, and the share of the sphere below which they are drawn by cells.
_N_CHILD, _FEW = 256, 0.002
#: First words of the random streams, so that training and validation patches never share one.
_STREAM = {"training": 1, "validation": 2}


@dataclass(frozen=True)
class LocalMaps:
    """Maps with the local background that a normalisation asks for (none where its nside is 0).

    ``bands`` are those that a network expects, where the maps are a set, and ``further`` what it sees beside them:
    what is lacking is NaN.
    """

    maps: SkyMaps | MapSet
    background: NDArray[np.float32] | None
    bands: tuple[str, ...] = ()
    further: tuple[tuple[str, Kind], ...] = ()

    @classmethod
    def prepare(
        cls,
        maps: SkyMaps | MapSet,
        background_nside: int,
        background: NDArray[np.float32] | None = None,
        bands: tuple[str, ...] = (),
        further: tuple[tuple[str, Kind], ...] = (),
    ) -> LocalMaps:
        """Compute the background, if any is to be taken off and none is given."""
        if background_nside and background is None:
            background = local_background(maps, background_nside)
        return cls(maps, background, bands, further)

    def sample(
        self, lon_deg: float, lat_deg: float, angle_deg: float, ny: int, nx: int, pixel_arcmin: float
    ) -> NDArray[np.float32]:
        """A field minus its background, its S/N, further maps: (ny, nx, n_input) float32, bands NaN if unseen."""
        place = (lon_deg, lat_deg, angle_deg, ny, nx, pixel_arcmin)
        field = sample_field(self.maps, *place)
        if self.background is not None:
            field -= sample_field(self.background, *place)
        names = tuple(band.name for band in self.maps.bands)
        if self.bands and self.bands != names:
            there = [k for k, name in enumerate(self.bands) if name in names]
            whole = np.full((ny, nx, len(self.bands)), np.nan, np.float32)
            whole[..., there] = field[..., [names.index(self.bands[k]) for k in there]]
            field = whole
        parts = [field] if self.maps.snr is None else [field, sample_field(self.maps.snr, *place)]
        known = {one.name: one.values for one in self.maps.further}
        for name, kind in self.further:
            unseen = np.full((ny, nx, N_COLUMN[kind]), np.nan, np.float32)
            parts.append(sample_field(known[name], *place) if name in known else unseen)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


class Plan(NamedTuple):
    """Where a patch lies, whether its columns run the other way, and which further maps it goes without."""

    place: tuple[float, float, float]
    mirrored: bool
    without: tuple[bool, ...] = ()


class Target(Protocol):
    """What a network is to say of any field: discs of :class:`~szeek.learn.labels.ClusterLabels`, or a map."""

    @property
    def vectors(self) -> NDArray[np.float64]:
        """Unit vectors of what patches are placed by, (n, 3)."""

    def draw(
        self, lon_deg: float, lat_deg: float, angle_deg: float, ny: int, nx: int, pixel_arcmin: float
    ) -> NDArray[np.float32]:
        """Values of a field, (ny, nx) float32."""


class Patches:
    """The training and validation patches of a run.

    Source: Bonjean (2020), Sect. 3.1: random centre and orientation, at least one cluster inside.
    Deviation: no pixel of a training patch lies in a test or validation tile, and none of a validation
    patch outside the validation tiles; the paper speaks of centres. With ``empty_fraction`` some patches
    have their centre anywhere, so that the network also sees sky without clusters.

    Parameters
    ----------
    sky : LocalMaps
    labels : Target
    config : PatchConfig
    split : SplitConfig
    seed : int
    classes : sequence of Target
        Of the further classes of the network; patches are placed by clusters alone.
    absent : sequence of float
        Share of the patches that go without each of the sky's further maps, so that the network can do without.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.learn.labels import ClusterLabels
    >>> from szeek.sky.tiles import tile_of
    >>> rng, n_pix = np.random.default_rng(1), 12 * 16**2
    >>> maps = SkyMaps(np.zeros((n_pix, 6), np.float32), np.ones(n_pix, bool), read_instrument().bands)
    >>> labels = ClusterLabels(rng.uniform(0, 360, 2000), rng.uniform(-80, 80, 2000))
    >>> patches = Patches(LocalMaps(maps, None), labels, PatchConfig(), SplitConfig(), seed=1)
    >>> lon_deg, lat_deg, angle_deg = patches.place(0)
    >>> int(tile_of(lon_deg, lat_deg)) in SplitConfig().test_tiles, patches.place(0) == (lon_deg, lat_deg, angle_deg)
    (False, True)
    """

    def __init__(
        self,
        sky: LocalMaps,
        labels: Target,
        config: PatchConfig,
        split: SplitConfig,
        seed: int,
        classes: Sequence[Target] = (),
        absent: Sequence[float] = (),
    ) -> None:
        self.sky, self.labels, self.config, self.seed = sky, labels, config, seed
        self.classes, self.absent = classes, np.asarray(absent)
        radius_deg = math.sqrt(0.5) * config.size * config.pixel_arcmin / 60
        kept_out = Tiles((*split.test_tiles, *split.validation_tiles), split.nside)
        others = Tiles((*split.test_tiles, *split.training), split.nside)
        centre_vectors = np.stack(healpy.pix2vec(_CENTRE_NSIDE, np.arange(12 * _CENTRE_NSIDE**2)), axis=1)
        seen = sees(sky.maps, centre_vectors)
        self._allowed = {
            "training": seen & ~pixels_near_tiles(_CENTRE_NSIDE, kept_out, radius_deg + split.guard_deg),
            "validation": seen
            & pixels_in_tiles(_CENTRE_NSIDE, split.validation)
            & ~pixels_near_tiles(_CENTRE_NSIDE, others, radius_deg),
        }
        # of a small survey centres are drawn among its own cells: of the sphere's few would fall there
        self._few = {
            part: healpy.ring2nest(_CENTRE_NSIDE, np.flatnonzero(allowed))
            for part, allowed in self._allowed.items()
            if 0.0 < allowed.mean() < _FEW
        }
        # only clusters with an allowed centre within reach can be inside a patch
        self._hosts = {part: self._reachable(part, radius_deg) for part in self._allowed}

    def _reachable(self, part: str, radius_deg: float) -> NDArray[np.int64]:
        near = []
        for k, vector in enumerate(self.labels.vectors):
            disc = healpy.query_disc(_CENTRE_NSIDE, vector, math.radians(0.8 * radius_deg))
            if self._allowed[part][disc].mean() > 0.02:
                near.append(k)
        if not near:
            raise ValueError(
                f"no cluster of the catalogue lies where {part} patches may be: footprint and tiles leave "
                f"{self._allowed[part].mean():.1%} of the sky for them"
            )
        return np.array(near)

    def place(self, index: int, part: str = "training") -> tuple[float, float, float]:
        """Centre and orientation (lon_deg, lat_deg, angle_deg) of patch ``index``, from (seed, index) alone."""
        rng = np.random.default_rng([self.seed, _STREAM[part], index])
        anywhere = rng.random() < self.config.empty_fraction
        half = 0.5 * self.config.size - 1
        pixel_rad = math.radians(self.config.pixel_arcmin / 60)
        for _ in range(10_000):
            angle_deg = float(rng.uniform(0, 360))
            if anywhere and part in self._few:
                cells = self._few[part]
                child = cells[rng.integers(len(cells))] * _N_CHILD + rng.integers(_N_CHILD)
                centre = np.array(healpy.pix2vec(_CENTRE_NSIDE * math.isqrt(_N_CHILD), child, nest=True))
            elif anywhere:
                z, lon = rng.uniform(-1, 1), rng.uniform(0, 2 * math.pi)
                s = math.sqrt(1 - z * z)
                centre = np.array([s * math.cos(lon), s * math.sin(lon), z])
            else:
                hosts = self._hosts[part]
                # the draw of rng.choice, in an eighth of its time
                host = self.labels.vectors[hosts[rng.integers(len(hosts))]]
                # go from the cluster to the centre in a field that has the cluster in the middle
                lon_deg, lat_deg = _lonlat(host)
                basis = field_basis(lon_deg, lat_deg, angle_deg)
                x, y = rng.uniform(-half, half, 2) * pixel_rad
                centre = basis[0] + x * basis[1] + y * basis[2]
                centre /= np.linalg.norm(centre)
            if self._allowed[part][healpy.vec2pix(_CENTRE_NSIDE, *centre)]:
                # the orientation at the centre that keeps the field's axes where the cluster's are
                return (*_lonlat(centre), angle_deg if anywhere else _angle_at(centre, basis[1]))
        raise RuntimeError(f"no place found for {part} patch {index} in 10,000 draws")

    def plan(self, index: int, part: str = "training") -> Plan:
        """Where patch ``index`` lies, as :meth:`place` has it, and how it is seen."""
        mirrored, without = False, ()
        if self.config.mirror:
            mirrored = bool(np.random.default_rng([self.seed, _STREAM[part], index, 1]).random() < 0.5)
        if self.absent.size:
            draws = np.random.default_rng([self.seed, _STREAM[part], index, 2]).random(self.absent.size)
            without = tuple((draws < self.absent).tolist())
        return Plan(self.place(index, part), mirrored, without)

    def target(self, plan: Plan) -> NDArray[np.float32]:
        """Target of a planned patch, (size, size, n_class) float32, clusters first."""
        shape = (self.config.size, self.config.size, self.config.pixel_arcmin)
        drawn = np.stack([labels.draw(*plan.place, *shape) for labels in (self.labels, *self.classes)], axis=-1)
        return drawn[:, ::-1] if plan.mirrored else drawn

    def field(self, plan: Plan) -> NDArray[np.float32]:
        """Field of a planned patch minus background, (size, size, n_input) float32."""
        field = self.sky.sample(*plan.place, self.config.size, self.config.size, self.config.pixel_arcmin)
        last = field.shape[-1]
        for (_, kind), without in zip(self.sky.further[::-1], plan.without[::-1], strict=False):
            if without:
                field[..., last - N_COLUMN[kind] : last] = np.nan
            last -= N_COLUMN[kind]
        return field[:, ::-1] if plan.mirrored else field

    def cut(self, index: int, part: str = "training") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Field and target of patch ``index``."""
        plan = self.plan(index, part)
        return self.field(plan), self.target(plan)


@dataclass(frozen=True)
class PatchStream:
    """Patches of several skies in turn: patch i comes from sky i mod n, and is that sky's own patch i."""

    skies: Sequence[Patches]

    def of(self, index: int) -> Patches:
        """The sky that patch ``index`` comes from."""
        return self.skies[index % len(self.skies)]


def _lonlat(vector: NDArray[np.float64]) -> tuple[float, float]:
    x, y, z = vector
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))


def _angle_at(centre: NDArray[np.float64], direction: NDArray[np.float64]) -> float:
    """Orientation of the field at ``centre`` whose x axis points along ``direction``."""
    _, east, north = field_basis(*_lonlat(centre))
    return math.degrees(math.atan2(float(direction @ north), float(direction @ east)))
