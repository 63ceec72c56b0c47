"""Whose turn it is to sweep, where several processes serve one database."""

from datetime import datetime

from sqlalchemy import Column
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class SweepTurn(SQLModel, table=True):
    """One row: nobody sweeps in the background before next_at."""

    __tablename__ = "sweep_turns"

    id: int = Field(default=1, primary_key=True, sa_column_kwargs={"autoincrement": False})
    next_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
