"""Recommendations as a feature."""

from platform_api.features import Feature
from platform_api.recommendations import service
from platform_api.recommendations.routes import recommendations
from platform_api.recommendations.tables import RecommendationSetting

RECOMMENDATIONS = Feature(
    name="recommendations",
    routers=(recommendations,),
    personal_tables=(RecommendationSetting,),
    export=service.export_setting,
    erase=service.erase_setting,
)
