"""One trial on its devices: data, detectors, distillers, training, evaluation. Knows no Ray, no MLflow, no database."""
