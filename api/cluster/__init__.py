"""Where jobs and endpoints run: processes on one machine, or Kubernetes."""
