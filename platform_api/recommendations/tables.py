"""The switch with which people turn personal lists off."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, String
from sqlmodel import Field, SQLModel

from platform_api.columns import UtcDateTime


class RecommendationSetting(SQLModel, table=True):
    """personalised: False turns it off, whatever was consented to. Without a row it is on."""

    __tablename__ = "recommendation_settings"

    user_id: str = Field(sa_column=Column(String, ForeignKey("users.id"), primary_key=True))
    personalised: bool
    changed_at: datetime = Field(sa_column=Column(UtcDateTime, nullable=False))
