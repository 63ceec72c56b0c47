"""Orders as a feature."""

from platform_api.features import Feature
from platform_api.idempotency import IdempotentRequest
from platform_api.orders import service
from platform_api.orders.routes import orders
from platform_api.orders.tables import CreatorAccount, Entitlement, Order, OrderLine

# Saved answers carry a caller's id under a name of their own; they are erased with the orders.
ORDERS = Feature(
    name="orders",
    routers=(orders,),
    personal_tables=(Order, OrderLine, CreatorAccount, Entitlement, IdempotentRequest),
    export=service.export_orders,
    erase=service.erase_orders,
)
