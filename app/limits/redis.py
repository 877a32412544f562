"""Counters in Redis, shared by replicas: what a grant says holds for all of them together.

Rates are the library's own sliding windows. Slots are members of a sorted set with the moment
at which each runs out: a replica that dies gives its slots back by not renewing them.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.errors import Misconfigured
from app.limits.counting import CountsLost, Spent
from app.limits.local import seconds_until
from app.limits.rest import rest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PREFIX: Final = "dataverse-token-broker"
TIMEOUT_S: Final = 0.25
"""In the path of a request: slower than this is down."""
CONNECTIONS_MAX: Final = 32

SLOT_S: Final = 60
"""How long a slot outlives the replica that took it."""
RENEW_S: Final = 20.0

PAUSE_KEPT_S: Final = 1200
"""Longer than any pause that is believed in."""
PAUSES_MOST: Final = 1000
"""Applications times environments times limits that are paused at once."""
_PAUSED: Final = f"{PREFIX}:paused"

_TAKE: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[3]) * 2)
return 1
"""

_RENEW: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[2]) * 2)
"""


_COUNT: Final = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(redis.call('TIME')[1]))
return redis.call('ZCARD', KEYS[1])
"""

_PAUSE: Final = """
local time = redis.call('TIME')
local ends = time[1] + time[2] / 1e6 + tonumber(ARGV[2])
local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not before or tonumber(before) < ends then
  redis.call('ZADD', KEYS[1], string.format('%.3f', ends), ARGV[1])
end
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[3]))
"""

_PAUSES: Final = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now))
local found = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
for i = 2, #found, 2 do found[i] = string.format('%.3f', tonumber(found[i]) - now) end
return found
"""


class RedisCounts:
    """Every failure is `CountsLost`. Run `keep` while slots are held; `aclose` it at the end."""

    def __init__(self, url: str) -> None:
        """Connects with the first request. Raises `Misconfigured`."""
        if importlib.util.find_spec("redis") is None:
            raise Misconfigured(
                "extra-missing",
                "BROKER_REDIS_URL: Redis needs the extra: pip install"
                " 'dataverse-token-broker[redis]'",
            )
        from limits import RateLimitItemPerMinute  # noqa: PLC0415 - only with Redis
        from limits.aio.storage import RedisStorage  # noqa: PLC0415
        from limits.aio.strategies import SlidingWindowCounterRateLimiter  # noqa: PLC0415
        from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=CONNECTIONS_MAX,
                timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError:
            # The message quotes the URL, and the URL may hold a password.
            raise Misconfigured(
                "redis-url-invalid", "BROKER_REDIS_URL: must be redis://… or rediss://…"
            ) from None
        self._pool = pool
        self._redis: Any = Redis(connection_pool=pool)
        self._failures: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
        # Documented, and typed as if every option were a scalar.
        same_connections: dict[str, Any] = {"connection_pool": pool}
        storage = RedisStorage(
            "async+redis://", implementation="redispy", key_prefix=PREFIX, **same_connections
        )
        self._rates = SlidingWindowCounterRateLimiter(storage)
        self._per_minute = RateLimitItemPerMinute
        self._take = self._redis.register_script(_TAKE)
        self._renew = self._redis.register_script(_RENEW)
        self._count = self._redis.register_script(_COUNT)
        self._pause = self._redis.register_script(_PAUSE)
        self._pauses = self._redis.register_script(_PAUSES)
        self._held: dict[str, str] = {}
        """Keys of the sorted sets by the slots held in them."""

    async def hit(self, key: str, per_minute: int) -> Spent | None:
        item = self._per_minute(per_minute)
        async with self._answered():
            if await self._rates.hit(item, key):
                return None
            stats = await self._rates.get_window_stats(item, key)
            return Spent(seconds_until(stats.reset_time))

    async def take(self, key: str, most: int) -> RedisSlot | None:
        member, name = str(uuid.uuid4()), f"{PREFIX}:under-way:{key}"
        async with self._answered():
            taken = await self._take(keys=[name], args=[most, member, SLOT_S])
        if not taken:
            return None
        self._held[member] = name
        return RedisSlot(self, member)

    async def holders(self, key: str) -> int:
        """How many slots of this key are held, by whomever."""
        async with self._answered():
            return int(await self._count(keys=[f"{PREFIX}:under-way:{key}"]))

    async def pause(self, key: str, seconds: float) -> None:
        """Of the pauses that it is told for one key the one that ends last counts."""
        async with self._answered():
            await self._pause(keys=[_PAUSED], args=[key, seconds, PAUSE_KEPT_S])

    async def pauses(self) -> dict[str, float]:
        """How many seconds are left of each."""
        async with self._answered():
            found = await self._pauses(keys=[_PAUSED], args=[PAUSES_MOST])
        return {
            key.decode(errors="replace"): float(left)
            for key, left in zip(found[::2], found[1::2], strict=True)
        }

    async def give_back(self, member: str) -> None:
        name = self._held.pop(member)
        # Lost on the way: it runs out, since nobody renews it any more.
        with contextlib.suppress(CountsLost):
            async with self._answered():
                await self._redis.zrem(name, member)

    async def keep(self) -> None:
        """Renew the slots of requests that take long, for ever."""
        while True:
            await rest(RENEW_S)
            await self.renew()

    async def renew(self) -> None:
        for member, name in list(self._held.items()):
            try:
                async with self._answered():
                    await self._renew(keys=[name], args=[member, SLOT_S])
            except CountsLost:
                return

    async def aclose(self) -> None:
        with contextlib.suppress(*self._failures):
            await self._redis.aclose()
            await self._pool.aclose()

    @contextlib.asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(2 * TIMEOUT_S):
                yield
        except self._failures as error:
            raise CountsLost(type(error).__name__) from None


@dataclass(frozen=True, slots=True)
class RedisSlot:
    """To be given back once."""

    counts: RedisCounts
    member: str

    async def give_back(self) -> None:
        await self.counts.give_back(self.member)
