"""nemo's completeness of a folder that `szeek export` wrote for it, beside the package's own of the same survey.

    szeek export RUN --to nemo && szeek export RUN --to fits
    python benchmarks/peers/read_nemo.py RUN/exports --nemo ENVIRONMENT/bin/python

ENVIRONMENT is one with nemo (`pip install nemo-sz==0.9.0 camb`). Its class SelFn loads selFn/ as it is, and gives the
share of clusters above an S/N by mass and redshift; nemo's mass function (CCL, Tinker et al. 2008) weighs them. The
package's own is summed over patches, scatter and noise here, from survey.fits, without nemo's tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import Table
from scipy.stats import norm

from szeek.counts.masses import MassRelation
from szeek.counts.survey import Survey, interpolate_noise
from szeek.physics.scaling import theta500_from_mass, y500_from_mass

READER = """
import json, sys
import numpy as np
from nemo.completeness import SelFn
given = json.loads(sys.argv[1])
selfn = SelFn(given["folder"], given["snr"], zStep=0.05, zMax=1.5, zStepTheory=0.005, massBinsTheory=500,
              applyRelativisticCorrection=given["relativistic"])
inside = selfn.checkCoordsInAreaMask(np.array(given["ra"]), np.array(given["dec"]))
np.savez(given["out"], mass=selfn.M, z=selfn.z, share=selfn.compMz, haloes=selfn.clusterCount,
         area=selfn.totalAreaDeg2, inside=inside)
"""


def ask_nemo(python, folder, snr, clusters, relativistic=False):
    """What SelFn says of the folder: on its grid of mass and redshift, and of the clusters' positions."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.npz"
        given = {"folder": str(folder.resolve() / "selFn"), "snr": snr, "out": str(out)}
        given |= {"ra": list(clusters["RADeg"]), "dec": list(clusters["decDeg"]), "relativistic": relativistic}
        command = [python, "-c", READER, json.dumps(given, default=float)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.environ.get("NEMO_PATH", "")})
        with np.load(out) as file:
            return {name: file[name] for name in file.files}


def own_share(survey, snr, mass, z, with_network):
    """Share above an S/N, and, if asked, found by the network: (z, mass)."""
    relation, model = MassRelation(), survey.detection
    zs, ms = (grid.ravel() for grid in np.meshgrid(z, mass / 1e14, indexing="ij"))
    flux, size = y500_from_mass(ms, zs, relation.mass_bias), theta500_from_mass(ms, zs, relation.mass_bias)
    scatter = np.hypot(relation.scatter_ln, model.snr_scatter_ln)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    levels = (np.arange(10) + 0.5) / 10
    total = np.zeros(flux.size)
    for patch, sky in enumerate(survey.sky_fraction):
        sigma = interpolate_noise(survey.theta500_arcmin, survey.patch_noise_arcmin2, size, patch)
        mean = model.snr_factor * flux / sigma
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            q = mean * np.exp(scatter * node)
            above = norm.sf(snr - q)
            if with_network:  # the mean over what is above, at quantiles of it
                there = q[:, None] + norm.isf(above[:, None] * levels)
                above = above * model.found(there, size[:, None], survey.patch_log_dust[patch]).mean(axis=1)
            total += weight * sky * above
    return (total / survey.sky_fraction.sum()).reshape(len(z), len(mass))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", type=Path)
    parser.add_argument("--nemo", default="python", help="the python that has nemo")
    given = parser.parse_args()
    survey = Survey.read(given.exports / "fits" / "survey.fits")
    folder = given.exports / "nemo"
    clusters = Table.read(folder / "catalogue.fits")
    snr = survey.snr_min
    nemo = ask_nemo(given.nemo, folder, snr, clusters)
    relativistic = ask_nemo(given.nemo, folder, snr, clusters, relativistic=True)
    mass, z, haloes = nemo["mass"], nemo["z"], nemo["haloes"]
    print(f"area {nemo['area']:.1f} deg2, the survey's {survey.area_deg2:.1f}")
    print(f"{int(nemo['inside'].sum())} of {len(clusters)} clusters inside nemo's area mask")
    print(f"above S/N {snr:.2f}: {len(clusters)} clusters in the catalogue")
    shares = {
        "nemo, as exported": nemo["share"],
        "nemo, its relativistic correction": relativistic["share"],
        "own, above the S/N": own_share(survey, snr, mass, z, False),
        "own, above it and found": own_share(survey, snr, mass, z, True),
    }
    reference = shares["own, above the S/N"]
    print("share of the haloes                  expected   largest   rms of the difference to own, above the S/N")
    used = haloes > 1e-3 * haloes.max()
    for name, share in shares.items():
        apart = (share - reference)[used]
        counts = (share * haloes).sum()
        print(f"{name:36s} {counts:8.1f}   {np.abs(apart).max():7.3f}   {np.sqrt(np.mean(apart**2)):7.4f}")
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.5)):
        inside = (z > low) & (z < high)
        counts = [f"{(share * haloes)[inside].sum():7.1f}" for share in shares.values()]
        print(f"z {low:.1f} - {high:.1f}: {' '.join(counts)}")


if __name__ == "__main__":
    main()
