#!/usr/bin/env bash
# Serves a target with its EAGLE-3 draft in SGLang. --help lists the options.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/serve_sglang.sh TARGET [DRAFT] [--preset NAME] [--port PORT] [--print] [-- OPTIONS OF sglang.launch_server]

Serves TARGET with the EAGLE-3 DRAFT (folders or hub ids) in SGLang, which drafts trees and chains. Without DRAFT the target
decodes alone: so the answers for its first draft are written (python -m data_recipes.regenerate).

  --preset tree16   steps 5, topk 4, 16 draft tokens, the default: for few requests at a time
  --preset tree32   steps 6, topk 10, 32 draft tokens: longer still, where verifying 32 tokens costs little more than 16
  --preset chain3   steps 3, topk 1, 4 draft tokens: for many requests at a time; vLLM's num_speculative_tokens 3
  --preset chain7   steps 7, topk 1, 8 draft tokens
  --port PORT       where it listens, 30000 by default
  --print           show the command and do not run it

PYTHON names the interpreter of the environment with SGLang, python3 by default. Everything behind -- goes to SGLang as it
is; on a GPU of 24 GB, for instance:

  scripts/serve_sglang.sh TARGET DRAFT -- --dtype float16 --mem-fraction-static 0.7 --cuda-graph-max-bs 8
TEXT
}

engine=SGLang preset=tree16 port=30000
source "$(dirname "${BASH_SOURCE[0]}")/serve_options.sh"

case $preset in
    tree16) steps=5 topk=4 tokens=16 ;;
    tree32) steps=6 topk=10 tokens=32 ;;
    chain3) steps=3 topk=1 tokens=4 ;;
    chain7) steps=7 topk=1 tokens=8 ;;
    *) fail "no preset $preset; there are tree16, tree32, chain3 and chain7" ;;
esac

python=${PYTHON:-python3}
command=("$python" -m sglang.launch_server --model-path "${models[0]}" --port "$port")
if ((${#models[@]} == 2)); then
    command+=(
        --speculative-algorithm EAGLE3 --speculative-draft-model-path "${models[1]}"
        --speculative-num-steps "$steps" --speculative-eagle-topk "$topk" --speculative-num-draft-tokens "$tokens"
    )
fi
command+=(${rest[@]+"${rest[@]}"})
if $show; then
    printf '%q ' "${command[@]}" && echo
    exit
fi
command -v "$python" >/dev/null || fail "no interpreter $python; set PYTHON to that of the environment with SGLang"
exec "${command[@]}"
