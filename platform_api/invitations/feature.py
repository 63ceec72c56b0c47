"""Invitations as a feature. They name programs, not people, and none is kept."""

from platform_api.features import Feature
from platform_api.invitations.routes import invitations

INVITATIONS = Feature(name="invitations", routers=(invitations,))
