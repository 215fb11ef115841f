"""The training job: one run, from its spec to report and bundle."""
