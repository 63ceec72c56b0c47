"""Reviews as a feature."""

from platform_api.features import Feature
from platform_api.reviews import service
from platform_api.reviews.routes import reviews
from platform_api.reviews.tables import Review

REVIEWS = Feature(
    name="reviews",
    routers=(reviews,),
    personal_tables=(Review,),
    export=service.export_reviews,
    erase=service.erase_reviews,
)
