"""For health checks: exit status 0 where a URL answers 200 within 5 seconds. `answers.py URL [FILE]`, FILE holding a bearer token."""

import sys
import urllib.request
from pathlib import Path

url, *token = sys.argv[1:]
headers = {"Authorization": f"Bearer {Path(token[0]).read_text().strip()}"} if token else {}
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(urllib.request.Request(url, headers=headers), timeout=5)
