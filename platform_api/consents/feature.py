"""Consent as a feature."""

from platform_api.consents import service
from platform_api.consents.routes import consents
from platform_api.consents.tables import ConsentReceipt
from platform_api.features import Feature

CONSENTS = Feature(
    name="consents",
    routers=(consents,),
    personal_tables=(ConsentReceipt,),
    export=service.export_consents,
    erase=service.erase_consents,
)
