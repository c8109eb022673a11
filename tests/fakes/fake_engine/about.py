"""What the fake prints about itself: `--help`, `--version`, `--list-devices`.

The flags are those of llama.cpp 0.7.0 that a launcher may want to probe, in that program's layout; the
descriptions are ours.
"""

VERSION = "version: 0.7.0 (build 11669, commit fake)\nbuilt with Python for tests"
DEVICES = "Available devices:\n  (none)"

_FLAGS = (
    ("-h,    --help, --usage", "print this and exit"),
    ("--version", "print version and build"),
    ("-t,    --threads N", "threads that generate"),
    ("-tb,   --threads-batch N", "threads that read the prompt"),
    ("-c,    --ctx-size N", "context, shared by the slots (0: the model's)"),
    ("-n,    --predict, --n-predict N", "tokens to generate at most"),
    ("-b,    --batch-size N", "logical batch"),
    ("-ub,   --ubatch-size N", "physical batch"),
    ("-fa,   --flash-attn [on|off|auto]", "flash attention"),
    ("-ctk,  --cache-type-k TYPE", "type of the keys' cache"),
    ("-ctv,  --cache-type-v TYPE", "type of the values' cache"),
    ("--rpc SERVERS", "rpc servers, host:port with commas between"),
    ("-lm,   --load-mode MODE", "how the file is read: auto, mmap, none"),
    ("-dev,  --device <dev1,dev2,..>", "devices to use"),
    ("--list-devices", "print the devices and exit"),
    ("-ngl,  --gpu-layers, --n-gpu-layers N", "layers kept on devices"),
    ("-sm,   --split-mode {none,layer,row,tensor}", "how a model is split over devices"),
    ("-ts,   --tensor-split N0,N1,N2,...", "each device's share"),
    ("-mg,   --main-gpu INDEX", "the device of an unsplit model"),
    ("-fit,  --fit [on|off]", "adjust what was not given to the memory there is"),
    ("-m,    --model FNAME", "the model's file"),
    ("--log-disable", "no log"),
    ("--log-file FNAME", "log into a file"),
    ("--log-colors [on|off|auto]", "colours in the log"),
    ("-v,    --verbose, --log-verbose", "log everything"),
    ("--offline", "never use the network"),
    ("-lv,   --verbosity, --log-verbosity N", "how much to log"),
    ("--log-prefix, --no-log-prefix", "prefix of log lines"),
    ("--log-timestamps, --no-log-timestamps", "time in log lines"),
    ("--spec-draft-n-max N", "tokens to draft at most"),
    ("--spec-draft-n-min N", "tokens to draft at least"),
    ("--spec-draft-p-min, --draft-p-min P", "least probability of a drafted token"),
    ("--spec-draft-device, -devd, --device-draft <dev1,dev2,..>", "the draft's devices"),
    ("--spec-draft-ngl, -ngld, --gpu-layers-draft, --n-gpu-layers-draft N", "the draft's layers"),
    ("--spec-draft-model, -md, --model-draft FNAME", "the draft's file"),
    ("--spec-type none,draft-simple,draft-eagle3,draft-mtp,ngram-simple", "how to speculate"),
    ("-cram, --cache-ram N", "prompt cache in MiB"),
    ("-kvu,  --kv-unified, -no-kvu, --no-kv-unified", "one cache for all slots"),
    ("--warmup, --no-warmup", "run once before serving"),
    ("--pooling {none,mean,cls,last,rank}", "how embeddings are pooled"),
    ("-np,   --parallel N", "slots"),
    ("-cb,   --cont-batching, -nocb, --no-cont-batching", "continuous batching"),
    ("-mm,   --mmproj FILE", "projector of a vision model"),
    ("-a,    --alias STRING", "the model's name in the API"),
    ("--host HOST", "address to listen on"),
    ("--port PORT", "port to listen on"),
    ("--api-prefix PREFIX", "prefix of every path"),
    ("--ui,  --webui, --no-ui, --no-webui", "the built-in page"),
    ("--embedding, --embeddings", "serve embeddings"),
    ("--rerank, --reranking", "serve reranking"),
    ("--api-key KEY", "key that clients must send"),
    ("--chat-template-kwargs STRING", "arguments of the chat template"),
    ("-to,   --timeout N", "socket timeout in seconds"),
    ("--threads-http N", "threads that serve HTTP"),
    ("--cache-prompt, --no-cache-prompt", "reuse prompts"),
    ("--cache-reuse N", "least chunk to reuse"),
    ("--metrics", "serve /metrics"),
    ("--props", "let /props be changed"),
    ("--slots, --no-slots", "serve /slots"),
    ("--slot-save-path PATH", "where slots are saved"),
    ("--models-dir PATH", "folder of a router"),
    ("--jinja, --no-jinja", "jinja chat templates"),
    ("--reasoning-format FORMAT", "where thoughts go"),
    ("-rea,  --reasoning [on|off|auto]", "thinking"),
    ("--chat-template JINJA_TEMPLATE", "the chat template"),
    ("--chat-template-file JINJA_TEMPLATE_FILE", "file of the chat template"),
)
_COLUMN = 40

RPC_HELP = """Usage: ggml-rpc-server [options]

options:
  -h, --help                       print this and exit
  -t, --threads N                  threads of the CPU device
  -d, --device <dev1,dev2,...>     devices to offer
  -H, --host HOST                  address (default: 127.0.0.1)
  -p, --port PORT                  port (default: 50052)
  -c, --cache                      keep tensors on disk"""


def help_text() -> str:
    """Return the `--help` of the fake llama-server, in the layout of 0.7.0."""
    lines = ["----- common params -----", ""]
    for flag, meaning in _FLAGS:
        if len(flag) >= _COLUMN:
            lines += [flag, " " * _COLUMN + meaning]
        else:
            lines.append(flag.ljust(_COLUMN) + meaning)
    return "\n".join(lines)
