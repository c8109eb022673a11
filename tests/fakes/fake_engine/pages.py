"""The paths that generate nothing: health, props, slots, metrics, models, embeddings, statistics."""

from collections.abc import Callable
from dataclasses import asdict

from tests.fakes.fake_engine import answers
from tests.fakes.fake_engine.options import Options
from tests.fakes.fake_engine.streams import StreamFeed


class Server:
    """What every connection of the process shares."""

    def __init__(self, options: Options, feed: StreamFeed) -> None:
        self.options = options
        self.feed = feed
        self.model = options.model
        self.close_after_stream = options.close_after_stream
        self.loading = options.load_s > 0

    def loaded(self) -> None:
        """End the loading phase."""
        self.loading = False


def page(server: Server, method: bytes, path: bytes) -> bytes:
    """Return the whole answer of a path that generates nothing; 404 where there is none."""
    make = _PAGES.get(path)
    if make is None or (path == b"/v1/embeddings" and method != b"POST"):
        return answers.error(404, "File Not Found", "not_found_error")
    return make(server)


def _slots(server: Server) -> bytes:
    busy = server.feed.open
    count = max(server.options.slots, busy)
    return answers.document(
        [
            {
                "id": index,
                "n_ctx": server.options.context // server.options.slots,
                "speculative": False,
                "is_processing": index < busy,
            }
            for index in range(count)
        ]
    )


def _props(server: Server) -> bytes:
    options = server.options
    settings = {"n_ctx": options.context // options.slots, "params": {}}
    return answers.document(
        {
            "default_generation_settings": settings,
            "total_slots": options.slots,
            "model_alias": options.model,
            "model_path": options.model,
            "chat_template": "",
            "build_info": "b0-fake",
        }
    )


def _models(server: Server) -> bytes:
    meta = {
        "n_vocab": 960,
        "n_ctx": server.options.context,
        "n_params": 1_353_344,
        "size": 2_710_016,
    }
    entry = {
        "id": server.model,
        "object": "model",
        "created": answers.CREATED,
        "owned_by": "llamacpp",
        "meta": meta,
    }
    return answers.document({"object": "list", "data": [entry]})


def _metrics(server: Server) -> bytes:
    text = (
        "# TYPE llamacpp:tokens_predicted_total counter\n"
        f"llamacpp:tokens_predicted_total {server.feed.counters.tokens_sent}\n"
        "# TYPE llamacpp:requests_processing gauge\n"
        f"llamacpp:requests_processing {server.feed.open}\n"
    )
    return answers.raw(text.encode(), "text/plain; version=0.0.4")


def _stats(server: Server) -> bytes:
    return answers.document({"open": server.feed.open, **asdict(server.feed.counters)})


_HEALTHY = answers.document({"status": "ok"})

_PAGES: dict[bytes, Callable[[Server], bytes]] = {
    b"/health": lambda _: _HEALTHY,
    b"/v1/health": lambda _: _HEALTHY,
    b"/props": _props,
    b"/slots": _slots,
    b"/metrics": _metrics,
    b"/v1/models": _models,
    b"/models": _models,
    b"/v1/embeddings": lambda server: answers.embeddings(server.model),
    b"/fake/stats": _stats,
}
