"""What the network that tells classes apart says of real sky: the HFI cut-outs around Coma."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from szeek.assess.calibrate import Calibration
from szeek.assess.classes import class_probabilities, name_classes, split_calibrations
from szeek.find.predict import predict_classes
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.learn.model import find_model, load_model

pytestmark = pytest.mark.realdata

#: Spiral galaxies in the field, bright in the infrared: RA and Dec in deg (NASA/IPAC Extragalactic Database).
GALAXIES = {
    "NGC 4559": (188.990, 27.960),
    "NGC 4565": (189.087, 25.988),
    "NGC 4725": (192.611, 25.501),
    "NGC 4793": (193.669, 28.939),
}
CLUSTERS = ("PSZ2 G057.80+88.00", "PSZ2 G023.17+86.71", "PSZ2 G259.30+84.41", "PSZ2 G343.33+83.19")
#: Entries of PSZ2 that are infrared sources by their spectrum, Q_NEURAL < 0.05.
SPURIOUS = ("PSZ2 G310.81+83.91", "PSZ2 G318.46+83.79", "PSZ2 G320.94+83.69")


@pytest.fixture(scope="module")
def called(real_data):
    """The likeliest class of each position, by its name."""
    bands = ("100", "143", "217", "353", "545", "857")
    maps = read_skymaps({band: real_data / f"maps/coma/hfi_{band}_coma.fits" for band in bands})
    model, folder = load_model("szeek-components"), find_model("szeek-components")
    p = predict_classes(maps, model, rotations=2)
    psz2 = read_catalogue(real_data / "catalogues/HFI_PCCS_SZ-union_R2.08.fits")
    places = {name: psz2[psz2["name"] == name][0] for name in (*CLUSTERS, *SPURIOUS)}
    rows = [(name, float(row["lon_deg"]), float(row["lat_deg"])) for name, row in places.items()]
    for name, (ra_deg, dec_deg) in GALAXIES.items():
        place = SkyCoord(ra_deg, dec_deg, unit="deg").galactic
        rows.append((name, place.l.deg, place.b.deg))
    table = Table(rows=rows, names=("name", "lon_deg", "lat_deg"))
    names = ("purity", *model.classes)
    calibrations = split_calibrations(Table.read(folder / "class-calibration.ecsv"))
    calibrations["purity"] = Calibration.from_table(Table.read(folder / "calibration.ecsv"))
    maps_of = {name: np.ascontiguousarray(p[:, k]) for k, name in enumerate(names)}
    found = class_probabilities(table, maps_of, calibrations)
    found.rename_column("p_purity", "purity")
    return dict(zip(table["name"], name_classes(found, model.classes), strict=True))


def test_clusters_are_called_clusters(called):
    assert [called[name] for name in CLUSTERS] == ["cluster"] * 4


def test_bright_galaxies_are_called_dusty(called):
    """NGC 4565 is seen edge-on and 16 arcmin long: as cold and extended as a clump."""
    kinds = {name: called[name] for name in GALAXIES}
    assert kinds.pop("NGC 4565") in ("dusty", "clump")
    assert set(kinds.values()) == {"dusty"}


def test_infrared_sources_of_psz2_are_called_dust_or_clump(called):
    assert {called[name] for name in SPURIOUS} <= {"dusty", "clump"}
