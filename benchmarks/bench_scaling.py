"""How prediction's time and memory grow with nside, shards, workers and bands: the tables of docs/scaling.md.

python benchmarks/bench_scaling.py [nside] [shards] [workers] [bands] [--note "busy machine"] [--dry]

All of them by default; each is kept in history.jsonl.

The network's pixel is the maps' (1.7177 arcmin at nside 2048). Maps of zeros cost the same as others and take no room
on disk. Beyond nside 2048 a disc of the sky is seen; the whole sky has so many times its network pixels, and what is
done with whole maps (background, setting up, checking) once. One thread, CPU seconds; memory without mapped files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import healpy
import history
import numpy as np
from rows import Memory

from szeek.find.detect import detect_sources
from szeek.find.predict import check_seen, empty_map, plan_fields, predict, predict_fields
from szeek.find.shards import predict_shard
from szeek.learn.model import Model, build_network, load_model
from szeek.learn.normalise import Normaliser
from szeek.sky.fields import cover_sphere, place_field
from szeek.sky.skymaps import Band, SkyMaps

#: Share of the sky that is seen, by nside.
_SHARE = {4096: 1 / 16, 8192: 1 / 64}


def write_zeros(nside: int, n_band: int, share: float, folder: Path) -> SkyMaps:
    """Memory-mapped maps whose files have holes instead of zeros."""
    n_pix = 12 * nside**2
    bands = [Band(f"{k}", 100.0 + k, 1.5, "K_CMB") for k in range(n_band)]
    SkyMaps(np.zeros((12, n_band), np.float32), np.ones(12, bool), tuple(bands)).save(folder)
    np.lib.format.open_memmap(folder / "values.npy", "w+", np.float32, (n_pix, n_band)).flush()
    footprint = np.lib.format.open_memmap(folder / "footprint.npy", "w+", bool, (n_pix,))
    if share == 1:
        footprint[:] = True
    else:
        centre = healpy.ang2vec(40.0, 30.0, lonlat=True)
        footprint[healpy.query_disc(nside, centre, np.arccos(1 - 2 * share))] = True
    footprint.flush()
    return SkyMaps.open(folder)


def make_model(maps: SkyMaps) -> Model:
    """The paper's network, untrained, behind a local background."""
    n_band = maps.n_band
    network = build_network(n_band, {"dropout": 0.2})
    network.start(np.random.default_rng(1), 0.01)
    normaliser = Normaliser("local-whitened", np.zeros(n_band, np.float32), np.eye(n_band, dtype=np.float32), 16)
    names = tuple(band.name for band in maps.bands)
    return Model(network, normaliser, names, 1.7177 * 2048 / maps.nside, {})


def measure(nside: int, n_band: int) -> dict[str, float]:
    """CPU seconds of the steps of prediction, of detection, and peak memory; in a process of its own."""
    share = _SHARE.get(nside, 1.0)
    seconds = [0.0] * 5
    with tempfile.TemporaryDirectory() as scratch:
        maps = write_zeros(nside, n_band, share, Path(scratch) / "maps")
        model = make_model(maps)
        with Memory() as memory:
            seconds[0] = time.process_time()
            # as szeek.find.predict.predict does
            p_map, fields = empty_map(len(maps.footprint)), plan_fields(maps, model)
            seconds[1] = time.process_time()
            for field, values in predict_fields(maps, model, fields, threads=1):
                place_field(field, values, p_map)
            seconds[2] = time.process_time()
            check_seen(p_map, maps.footprint)
            seconds[3] = time.process_time()
            detect_sources(p_map, 0.99)
            seconds[4] = time.process_time()
    prepared, network, checked, detected = np.diff(seconds).tolist()
    done, all_of_them = (
        sum(f.ny * f.nx for f in some) for some in (fields, cover_sphere(nside, model.pixel_arcmin, 16, 16))
    )
    whole = prepared + checked + network * all_of_them / done
    return {
        "share": share, "network_s": network, "rest_s": prepared + checked, "ns": 1e9 * network / done,
        "whole_s": whole, "detect_s": detected, "gib": memory.gib,
    }  # fmt: skip


def measure_shards(nside: int, of: int) -> dict[str, float]:
    """CPU seconds of each shard of a division, one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        maps = write_zeros(nside, 6, 1.0, Path(scratch) / "maps")
        model = make_model(maps)
        seconds = []
        for number in range(1, of + 1):
            start = time.process_time()
            predict_shard(maps, model, Path(scratch), (number, of), threads=1)
            seconds.append(time.process_time() - start)
    return {"sum_s": sum(seconds), "longest_s": max(seconds)}


def measure_workers(nside: int, n: int) -> dict[str, float]:
    """CPU seconds and memory of the workers of a LocalCluster, one thread each, over a prediction; and of one process
    without Dask. They share this machine."""
    from distributed import Client, LocalCluster

    with (
        tempfile.TemporaryDirectory() as scratch,
        LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None, local_directory=scratch) as cluster,
        Client(cluster) as client,
    ):
        small, large = (Path(scratch) / f"maps-{side}" for side in (64, nside))
        for side, folder in ((64, small), (nside, large)):
            make_model(write_zeros(side, 6, 1.0, folder)).save(folder)
        predict(SkyMaps.open(small), load_model(small), client=client)  # imports and compiles
        client.run(_watch_memory)
        before = client.run(time.process_time)
        p_map = predict(SkyMaps.open(large), load_model(large), client=client)
        after = client.run(time.process_time)
        gib = max(client.run(_stop_watching).values())
        maps, start = SkyMaps.open(large), time.process_time()
        assert np.array_equal(predict(maps, make_model(maps), threads=1), p_map)
        here = time.process_time() - start
    seconds = [after[worker] - before[worker] for worker in before]
    return {"sum_s": sum(seconds), "longest_s": max(seconds), "here_s": here, "gib": gib}


#: In a worker: its memory while it is watched.
_watched: list[Memory] = []


def _watch_memory() -> None:
    _watched.append(Memory().__enter__())


def _stop_watching() -> float:
    memory = _watched.pop()
    memory.__exit__()
    return memory.gib


def _apart(call: str) -> dict[str, float]:
    """In a process of its own, after everything was compiled in it on a small map."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import json, rows, bench_scaling as b; "
    code += "rows.use_threads(1); b.measure(64, 6); b.measure_shards(64, 2); "
    code += f"print(json.dumps(b.{call}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _divided(call: str, counts: tuple[int, ...]) -> list[dict[str, float]]:
    """Work divided into ever more parts, with what one part alone took."""
    table = [{"n": n, **_apart(call.format(n))} for n in counts]
    return [{**row, "alone_s": table[0]["sum_s"]} for row in table]


#: Each table: how it is measured.
_TABLES = {
    "nside": lambda: [{"nside": nside, **_apart(f"measure({nside}, 6)")} for nside in (512, 1024, 2048, 4096, 8192)],
    "shards": lambda: _divided("measure_shards(512, {})", (1, 2, 4, 8, 16)),
    "workers": lambda: _divided("measure_workers(512, {})", (1, 2, 4)),
    "bands": lambda: [{"n": n, **_apart(f"measure(512, {n})")} for n in (1, 3, 6, 9, 12)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(_TABLES), choices=[*_TABLES, []])
    parser.add_argument("--note", default="", help="kept in the history")
    parser.add_argument("--dry", action="store_true", help="write no history")
    given = parser.parse_args()
    for kind in given.tables:
        table = _TABLES[kind]()
        print(kind, *map(json.dumps, table), sep="\n", flush=True)
        if not given.dry:
            history.append(given.note, scaling={kind: table})


if __name__ == "__main__":
    main()
