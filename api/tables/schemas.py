"""The papers' tables as they are answered."""

from pydantic import BaseModel, Field


class CellCounts(BaseModel):
    """Published numbers by verdict; those that are never judged are in none."""

    reproduced: int
    off: int
    not_comparable: int
    missing: int


class ClaimCounts(BaseModel):
    """Claims by what the seeds say of them."""

    holds: int
    contradicted: int
    undecided: int
    missing: int


class TableAnswer(BaseModel):
    """A paper's table and its newest finished study at a scale."""

    table: str = Field(description='its id: "zhang2021/table-3"')
    paper: str
    title: str | None
    scale: str | None
    study: int | None = Field(description="null where it was never run to its end; then the rest is null too")
    seeds: int = Field(description="the most that a row has")
    cells: CellCounts | None
    gains: ClaimCounts | None = Field(description="signs of published gains, over all metrics")
    orders: ClaimCounts | None = Field(description="orders of methods by their gains, over all metrics and groups")


class TableList(BaseModel):
    """All papers' tables, each at every scale it was run at."""

    items: list[TableAnswer]
