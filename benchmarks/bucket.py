"""A stand-in for S3 that only lists: the commits of a square render, a thousand keys an answer.

    python -m benchmarks.bucket PORT SIDE

Each answer comes 50 ms after the question, as from a bucket in the same region.
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_left

from aiohttp import web

PAGE = 1_000
ANSWER_SECONDS = 0.05
ROOT = "run.zarr/done/c/0"
ITEM = (
    "<Contents><Key>{}</Key><LastModified>2026-11-25T00:00:00.000Z</LastModified>"
    "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>5</Size>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)


def serve(port: int, side: int) -> None:
    keys = sorted(f"{ROOT}/{row}/{column}" for row in range(side) for column in range(side))

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(ANSWER_SECONDS)
        prefix = request.query.get("prefix", "")
        first = int(request.query.get("continuation-token") or bisect_left(keys, prefix))
        end = bisect_left(keys, prefix + "\x7f")
        last = min(first + PAGE, end)
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < end else ""
        return web.Response(
            content_type="application/xml",
            text="<?xml version='1.0'?><ListBucketResult "
            "xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
            f"<KeyCount>{last - first}</KeyCount><IsTruncated>{str(bool(more)).lower()}"
            f"</IsTruncated>{more}{''.join(map(ITEM.format, keys[first:last]))}</ListBucketResult>",
        )

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
