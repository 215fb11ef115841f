"""Version + recipe + seed becomes a training job."""
