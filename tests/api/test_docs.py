"""The browsable document is there without the internet, and runs no script but its own."""

import re

from fastapi.testclient import TestClient


def test_the_page_loads_everything_from_this_service(service: TestClient) -> None:
    page = service.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert re.findall(r"<script>|//", page.text) == []
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for path in loaded:
        answer = service.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")
        assert len(answer.content) > 100


def test_no_other_file_is_given_out(service: TestClient) -> None:
    for name in ("redoc.standalone.js", "..%2fcore.py", "favicon.png"):
        assert service.get(f"/docs/{name}").status_code in (404, 422)


def test_the_document_says_what_each_route_asks_for(service: TestClient) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert paths["/v1/studies"]["get"]["x-scope"] == "read"
    assert paths["/v1/studies"]["post"]["x-scope"] == "submit"
    assert paths["/v1/tokens"]["post"]["x-scope"] == "admin"
    assert "x-scope" not in paths["/healthz"]["get"]
    assert {"401", "403", "429"} <= paths["/v1/studies"]["get"]["responses"].keys()
    assert paths["/v1/studies"]["get"]["security"] == [{"HTTPBearer": []}]
