"""What `doctor` judges beyond the probes: a machine against the catalogue, its environment and a plan. Pure."""
