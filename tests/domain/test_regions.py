"""Where an offer lies: a country's two letters mean that country and no other."""

from __future__ import annotations

import pytest

from core.domain.market import Offer, OfferQuery, fits


def offer(region: str, country: str) -> Offer:
    return Offer(
        id="1",
        provider="vast",
        gpu="RTX 4090",
        gpu_count=1,
        vram_mib=24564,
        kind="on-demand",
        usd_per_hour=0.4,
        storage_usd_per_gb_month=0.1,
        observed_at=0.0,
        host_id="h",
        machine_ref="m",
        region=region,
        country=country,
    )


@pytest.mark.parametrize(
    ("region", "country", "wanted", "found"),
    [
        ("Sweden", "SE", "DE", False),  # "swe-de-n"
        ("Hesse", "DE", "de", True),
        ("Australia", "AU", "US", False),  # "a-us-tralia"
        ("Texas", "US", "us", True),
        ("Texas", "US", "tex", True),
        ("Sweden", "SE", "swed", True),
        ("us-central1", "", "us", True),  # a provider that names no country
    ],
)
def test_two_letters_are_a_country(region: str, country: str, wanted: str, found: bool) -> None:
    assert fits(offer(region, country), OfferQuery(region=wanted)) is found
