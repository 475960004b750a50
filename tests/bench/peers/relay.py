"""pycrdt-websocket as its documentation starts it, with its SQLite store."""

import asyncio
import sys

import uvicorn
from pycrdt.store import SQLiteYStore
from pycrdt.store import YDocNotFound
from pycrdt.websocket import ASGIServer, WebsocketServer, YRoom
from pycrdt.websocket.websocket_server import exception_logger

port, folder = int(sys.argv[1]), sys.argv[2]


class Store(SQLiteYStore):
    db_path = f"{folder}/updates.sqlite"


class StoringServer(WebsocketServer):
    """Rooms that are read from the store first, and written to it."""

    async def get_room(self, name):
        if name not in self.rooms:
            store = Store(path=name)
            room = YRoom(ready=False, ystore=store, exception_handler=exception_logger)
            self.rooms[name] = room
            await self.start_room(room)
            await store.started.wait()
            try:
                await store.apply_updates(room.ydoc)
            except YDocNotFound:
                pass
            room.ready = True
        room = self.rooms[name]
        await room.ydoc_observed.wait()
        return room


async def main():
    websocket_server = StoringServer(exception_handler=exception_logger)
    config = uvicorn.Config(
        ASGIServer(websocket_server), host="127.0.0.1", port=port, log_level="error"
    )
    async with websocket_server:
        await uvicorn.Server(config).serve()


asyncio.run(main())
