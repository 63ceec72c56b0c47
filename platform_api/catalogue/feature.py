"""The catalogue as a feature."""

from platform_api.catalogue import service
from platform_api.catalogue.routes import catalogue
from platform_api.catalogue.tables import Product
from platform_api.features import Feature

CATALOGUE = Feature(
    name="catalogue",
    routers=(catalogue,),
    personal_tables=(Product,),
    export=service.export_products,
    erase=service.erase_products,
)
