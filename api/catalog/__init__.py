"""What a spec may name: shipped studies, detectors, distillers with their options, datasets, backbones."""
