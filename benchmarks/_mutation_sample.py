"""Leaves a sample of a session of cosmic-ray to be tried: SESSION SIZE SEED, by its interpreter. Prints how many there are."""

import random
import sys

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import WorkerOutcome, WorkResult

path, size, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with use_db(path, WorkDB.Mode.open) as database:
    first = {item.job_id: item.mutations[0] for item in database.work_items}
    places = {key: (change.start_pos, change.operator_name, change.occurrence) for key, change in first.items()}
    jobs = sorted(database.work_items, key=lambda item: places[item.job_id])
    left = {item.job_id for item in random.Random(seed).sample(jobs, min(size, len(jobs)))}
    for item in jobs:
        if item.job_id not in left:
            database.set_result(item.job_id, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    print(len(jobs))
