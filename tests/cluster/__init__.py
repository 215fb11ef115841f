"""Stories on a real cluster; they skip where KUBECONFIG names none."""
