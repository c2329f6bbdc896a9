"""Reads facts from the NATS stream LIKEWISE_FACTS, each once, in the order of its user and resource.

    pip install nats-py
    NATS_URL=nats://127.0.0.1:4222 python stream.py
"""

import asyncio
import json
import os

import nats
from nats.js.api import AckPolicy, ConsumerConfig

# The newest version of each user and resource. Keep it with your data, and write both in one transaction: then a fact
# that comes again, or comes late, changes nothing.
newest: dict[tuple, int] = {}


def handle(fact: dict) -> None:
    pair = (fact["user_id"], fact["resource_type"], fact["resource_id"])
    if fact["version"] <= newest.get(pair, 0):
        return
    newest[pair] = fact["version"]
    print(fact["fact"], *pair, fact["like_count"], flush=True)


async def main() -> None:
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    facts = await connection.jetstream().pull_subscribe(
        "likewise.facts.>",
        durable="example-python",
        stream="LIKEWISE_FACTS",
        config=ConsumerConfig(ack_policy=AckPolicy.EXPLICIT),
    )
    while True:
        try:
            messages = await facts.fetch(100, timeout=5)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            handle(json.loads(message.data))
            await message.ack()


asyncio.run(main())
