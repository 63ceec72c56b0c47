"""The model registry as a feature."""

from platform_api.features import Feature
from platform_api.models import service
from platform_api.models.routes import models
from platform_api.models.tables import ModelEvent

MODELS = Feature(
    name="models",
    routers=(models,),
    personal_tables=(ModelEvent,),
    export=service.export_actions,
    erase=service.erase_actions,
)
