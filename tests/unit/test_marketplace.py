import numpy as np

from simulations.marketplace import TENANTS, generate


def test_the_same_seed_gives_the_same_marketplace() -> None:
    first, again, other = (
        generate(seed=3, num_users=300),
        generate(seed=3, num_users=300),
        generate(seed=4, num_users=300),
    )
    assert first.items == again.items
    np.testing.assert_array_equal(first.tenants[1].interactions.items, again.tenants[1].interactions.items)
    assert not np.array_equal(first.tenants[0].interactions.items[:50], other.tenants[0].interactions.items[:50])


def test_it_has_the_size_languages_and_tenants_that_it_promises() -> None:
    market = generate(seed=1)
    assert len(market.items) == 1_500
    assert sum(tenant.interactions.num_users for tenant in market.tenants) == 10_000
    assert len({tenant.interactions.num_users for tenant in market.tenants}) == len(TENANTS) == 3
    assert {item.language for item in market.items} == {"zh-CN", "en"}
    assert min(int(tenant.interactions.lengths.min()) for tenant in market.tenants) >= 3
    assert len({item.title for item in market.items}) == 1_500


def test_tenants_differ_in_taste() -> None:
    market = generate(seed=1, num_users=2_000)
    shares = [np.bincount(t.interactions.items, minlength=1_500) / len(t.interactions.items) for t in market.tenants]
    assert np.abs(shares[0] - shares[1]).sum() > 0.5
    assert np.abs(shares[1] - shares[2]).sum() > 0.5
