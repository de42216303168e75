"""One trial on its devices: data, detectors, distillers, training, evaluation. Knows no Ray, no MLflow, no database."""

from workers.left_out import leave_out

leave_out()
