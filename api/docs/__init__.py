"""The OpenAPI document, and a page to browse it."""
