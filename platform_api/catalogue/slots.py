"""Slots of consulting. A slot has room for one order; the primary key of what holds it decides between two."""

from datetime import datetime

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from platform_api.catalogue import queries
from platform_api.catalogue.schemas import NewSlot
from platform_api.catalogue.tables import ConsultingSlot, Product, SlotHold
from platform_api.columns import new_id
from platform_api.problems import Problem

MAX_SLOTS = 1000


def add_slot(session: Session, product: Product, wish: NewSlot, now: datetime) -> ConsultingSlot:
    """A slot of a product whose row the caller has locked. Raises Problem (409) where it overlaps another one."""
    if product.kind != "consulting":
        raise Problem("conflict", "only consulting has slots")
    if wish.starts_at <= now:
        raise Problem("invalid", "a slot begins in the future")
    coming = session.exec(
        select(ConsultingSlot).where(col(ConsultingSlot.product_id) == product.id, col(ConsultingSlot.ends_at) > now)
    ).all()
    if len(coming) >= MAX_SLOTS:
        raise Problem("conflict", f"a product has at most {MAX_SLOTS} slots ahead")
    if any(slot.starts_at < wish.ends_at and wish.starts_at < slot.ends_at for slot in coming):
        raise Problem("conflict", "it overlaps another slot")
    queries.note_shelf_change(session)
    slot = ConsultingSlot(id=new_id("slt"), product_id=product.id, starts_at=wish.starts_at, ends_at=wish.ends_at)
    session.add(slot)
    product.revision += 1
    session.flush()
    return slot


def remove_slot(session: Session, product: Product, slot_id: str) -> None:
    """Take back a slot that nobody has booked. Raises Problem (404, 409)."""
    queries.note_shelf_change(session)
    slot = session.get(ConsultingSlot, slot_id, with_for_update=True)
    if slot is None or slot.product_id != product.id:
        raise Problem("not-found", "the product has no such slot")
    if session.get(SlotHold, slot_id) is not None:
        raise Problem("conflict", "the slot is booked")
    session.delete(slot)
    product.revision += 1
    session.flush()


def hold_slot(session: Session, slot_id: str, order_id: str, now: datetime) -> ConsultingSlot:
    """Give a slot to an order, in the order's transaction; again to the same order changes nothing.

    Raises Problem: 404 for a slot of nothing on sale, 409 for one that has begun or that another order holds.
    """
    slot = session.get(ConsultingSlot, slot_id)
    if slot is None or queries.product(session, slot.product_id) is None:
        raise Problem("not-found", "no such slot is on sale")
    if slot.starts_at <= now:
        raise Problem("conflict", "the slot has begun")
    queries.note_shelf_change(session)
    try:
        with session.begin_nested():
            session.execute(insert(SlotHold).values(slot_id=slot_id, order_id=order_id, held_at=now))
    except IntegrityError:
        holder = session.exec(select(SlotHold.order_id).where(col(SlotHold.slot_id) == slot_id)).one_or_none()
        if holder != order_id:
            raise Problem("conflict", "the slot is booked") from None
    return slot


def release_slot(session: Session, slot_id: str, order_id: str) -> None:
    """Free a slot if this order holds it; another order's stays."""
    queries.note_shelf_change(session)
    hold = session.get(SlotHold, slot_id, with_for_update=True)
    if hold is not None and hold.order_id == order_id:
        session.delete(hold)
        session.flush()
