"""Who computes what, where: cells, jobs, workers, a run."""
