"""Asks Ray's autoscaler for devices, as a small Ray Job: `python -m orchestrator.cluster.asking BUNDLES`.

BUNDLES is a JSON list of what processes need together: [{"CPU": 4, "GPU": 1}, ...]. It stands until the next is asked for.
"""

import json
import sys

from orchestrator.settings import settings


def main() -> None:
    import ray
    from ray.autoscaler.sdk import request_resources

    ray.init(address=settings().ray, logging_level="warning", log_to_driver=False)
    request_resources(bundles=json.loads(sys.argv[1]))


if __name__ == "__main__":
    main()
