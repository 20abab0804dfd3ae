"""History: prices and telemetry, in a file of their own where a lost second costs nothing.

Prices: raw observations are kept 48 h, their 30-minute p25, median and count for ever, never a bare minimum (one odd
host doubles it overnight). Telemetry: 10-second points of every machine for 48 h. One rule: nothing here is a fact.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from core.domain.errors import StoreError
from core.domain.market import Offer, PriceHistory, PricePoint, class_of
from core.domain.readings import TelemetryPoint
from core.store.database import connect

T = TypeVar("T")

RAW_KEPT_S = 48 * 3600.0
BUCKET_S = 1800.0

meta = sa.MetaData()
observations = sa.Table(
    "price_observations",
    meta,
    sa.Column("price_class", sa.String, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("offer", sa.String, nullable=False),
    sa.Column("usd_per_gpu_hour", sa.Float, nullable=False),
    sa.Index("price_observations_by_class", "price_class", "at"),
    sa.Index("price_observations_by_time", "at"),
)
buckets = sa.Table(
    "price_buckets",
    meta,
    sa.Column("price_class", sa.String, primary_key=True),
    sa.Column("at", sa.Float, primary_key=True),
    sa.Column("p25", sa.Float, nullable=False),
    sa.Column("median", sa.Float, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
)
telemetry = sa.Table(
    "telemetry",
    meta,
    sa.Column("machine", sa.String, primary_key=True),
    sa.Column("at", sa.Float, primary_key=True),
    *(
        sa.Column(name, sa.Float)
        for name in ("utilization_pct", "memory_used_mib", "power_w", "temperature_c", "cpu_pct", "loss")
    ),
    sa.Column("step", sa.Integer),
)


class History:
    """Its own thread and connection; every method may be called at any time from the loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._last: dict[tuple[str, str], float] = {}  # (class, offer) -> price last written: only changes are rows
        self._open_bucket: dict[str, tuple[float, dict[str, float]]] = {}  # class -> (start, offer -> price)

    async def open(self) -> None:
        await self._run(self._open)

    def _open(self) -> None:
        self._engine = connect(self._url, durability="NORMAL")
        with self._engine.begin() as connection:
            meta.create_all(connection)

    async def observe(self, offers: Iterable[Offer], at: float) -> None:
        """One poll's offers: new prices become rows, a bucket that ended becomes its figures."""
        rows: list[dict[str, object]] = []
        done: list[tuple[str, PricePoint]] = []
        for offer in offers:
            name, price = class_of(offer), offer.usd_per_gpu_hour
            if self._last.get((name, offer.id)) != price:
                self._last[(name, offer.id)] = price
                rows.append({"price_class": name, "at": at, "offer": offer.id, "usd_per_gpu_hour": price})
            start = at - at % BUCKET_S
            bucket = self._open_bucket.get(name)
            if bucket is None or bucket[0] != start:
                if bucket is not None:
                    done.append((name, _figures(*bucket)))
                bucket = self._open_bucket[name] = (start, {})
            bucket[1][offer.id] = price
        if rows or done:
            await self._run(lambda: self._write_prices(rows, done, at))

    def _write_prices(self, rows: list[dict[str, object]], done: list[tuple[str, PricePoint]], at: float) -> None:
        with self._engine.begin() as connection:
            if rows:
                connection.execute(observations.insert(), rows)
            for name, point in done:
                connection.execute(buckets.delete().where(buckets.c.price_class == name, buckets.c.at == point.at))
                connection.execute(buckets.insert().values(price_class=name, **msgspec.structs.asdict(point)))
            if done:
                connection.execute(observations.delete().where(observations.c.at < at - RAW_KEPT_S))

    async def prices(self, price_class: str, now: float) -> PriceHistory:
        """Raw observations of 48 h and all buckets of one class; the running bucket is the last one."""
        running = self._open_bucket.get(price_class)

        def read(connection: sa.Connection) -> PriceHistory:
            o, b = observations.c, buckets.c
            raw = connection.execute(
                sa.select(o.at, o.usd_per_gpu_hour, o.offer)
                .where(o.price_class == price_class, o.at >= now - RAW_KEPT_S)
                .order_by(o.at)
            )
            kept = connection.execute(
                sa.select(b.at, b.p25, b.median, b.count).where(b.price_class == price_class).order_by(b.at)
            )
            return PriceHistory(
                price_class=price_class,
                raw=[(r.at, r.usd_per_gpu_hour, r.offer) for r in raw],
                buckets=[PricePoint(*row) for row in kept],
            )

        history = await self._run(lambda: self._read(read))
        if running is not None:
            history.buckets.append(_figures(*running))
        return history

    async def telemetry_add(self, rows: list[tuple[str, TelemetryPoint]], now: float) -> None:
        """Points of many machines in one transaction; what is older than 48 h goes."""
        values = [{"machine": m} | {f: getattr(p, f) for f in p.__struct_fields__} for m, p in rows]

        def work() -> None:
            with self._engine.begin() as connection:
                if values:
                    connection.execute(telemetry.insert(), values)
                connection.execute(telemetry.delete().where(telemetry.c.at < now - RAW_KEPT_S))

        await self._run(work)

    async def telemetry(self, machine: str, since_at: float) -> list[TelemetryPoint]:
        def read(connection: sa.Connection) -> list[TelemetryPoint]:
            t = telemetry.c
            query = sa.select(*(t[f] for f in TelemetryPoint.__struct_fields__)).where(
                t.machine == machine, t.at >= since_at
            )
            return [TelemetryPoint(*row) for row in connection.execute(query.order_by(t.at))]

        return await self._run(lambda: self._read(read))

    async def close(self) -> None:
        """Writes the running buckets, so that a short life of the engine leaves its half hour behind."""
        done = [(name, _figures(*bucket)) for name, bucket in self._open_bucket.items()]
        if done:
            await self._run(lambda: self._write_prices([], done, 0.0))
        await self._run(self._engine.dispose)
        self._thread.shutdown(wait=False)

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except SQLAlchemyError as e:
            reason = str(getattr(e, "orig", None) or e).splitlines()[0]
            raise StoreError(f"The history database refused: {reason}.", hint="Is the home's disk full?") from e


def _figures(start: float, prices: dict[str, float]) -> PricePoint:
    values = sorted(prices.values())
    p25 = statistics.quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]
    return PricePoint(at=start, p25=p25, median=statistics.median(values), count=len(values))
