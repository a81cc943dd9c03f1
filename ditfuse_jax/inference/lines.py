# SPDX-License-Identifier: Apache-2.0
"""What a run tells programs: one line of JSON per picture, or nothing at all (docs/serve.md)."""

import json
from typing import TextIO

from ditfuse_jax import image
from ditfuse_jax.inference.fuse import Fused
from ditfuse_jax.inference.jobs import Failure, Job
from ditfuse_jax.inference.making import Watch

SILENT = Watch(*[lambda *_: None] * len(Watch._fields))


def as_json(stream: TextIO) -> Watch:
    """Writes a line when a picture is whole on the disk, or has failed:

    {"ok": true, "out": "fused.png", "seconds": 1.2, "explained": 0.97, "bits": 8, "weights": null, ...}
    {"ok": false, "out": "out/a.png", "error": "a.png: no such file; check the path"}
    """

    def tell(**facts) -> None:
        print(json.dumps(facts, ensure_ascii=False), file=stream, flush=True)

    def on_done(job: Job, result: Fused) -> None:
        weights, invented, mask = (file and str(file) for file in (job.weights, job.invented, job.mask))
        tell(
            ok=True,
            out=str(job.out),
            seconds=round(sum(result.timings), 3),
            explained=result.explained,
            notes=list(result.told.notes),
            bits=image.bits_of(result.image),
            weights=weights,
            invented=invented,
            mask=mask,
            temperatures=job.temperatures and str(job.temperatures),
        )

    def on_failure(failure: Failure) -> None:
        tell(ok=False, out=str(failure.out), error=failure.message)

    return SILENT._replace(on_done=on_done, on_failure=on_failure)
