"""The runs of detectors and of sweeps in MLflow. No other part of samebox imports MLflow."""

import os

# MLflow reads these when it is imported: no usage reports, no advice on stdout
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
