"""A web service that imports CVs, and stops importing when the browser goes away.

pip install annul starlette uvicorn
annul serve &
uvicorn web_service:app --app-dir examples
curl --data-binary @examples/cv-en.pdf 'http://127.0.0.1:8000/cvs?user=u1'    # Ctrl-C cancels the job, too
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from annul_client import AsyncClient, Job, NoDaemon, RequestRefused, State


async def import_cv(request: Request) -> Response:
    """The CV in the body, a PDF, as JSON Resume; or why not."""
    client: AsyncClient = request.state.annul
    pdf = await request.body()
    try:
        job = await client.submit("import-pdf", {"pdf": pdf}, user=request.query_params.get("user", ""))
        job = await end_of(client, job, request)
    except RequestRefused as error:
        return JSONResponse({"code": error.code, "message": error.message}, 400)
    except NoDaemon:
        return JSONResponse({"code": "unavailable", "message": "try again later"}, 503)
    if job.state is State.COMPLETED:
        return JSONResponse(job.result["cv"])
    code, message = (job.error.code, job.error.message) if job.error else ("cancelled", "the import was cancelled")
    return JSONResponse({"code": code, "message": message}, 422)


async def end_of(client: AsyncClient, job: Job, request: Request) -> Job:
    """The job in its final state, which is `cancelled` where the browser did not wait for another."""
    over = asyncio.create_task(client.wait(job.id))
    gone = asyncio.create_task(disconnect(request))
    try:
        await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:  # also where this task itself is cancelled, by a server that shuts down
        gone.cancel()
        if not over.done():
            over.cancel()
            await client.cancel(job.id, reason="the browser went away", by="web")
    return await client.wait(job.id)


async def disconnect(request: Request) -> None:
    """Returns when the browser has gone away. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, AsyncClient]]:
    """One client for all requests: it has one connection, whatever their number."""
    async with AsyncClient() as client:
        yield {"annul": client}


app = Starlette(routes=[Route("/cvs", import_cv, methods=["POST"])], lifespan=lifespan)
