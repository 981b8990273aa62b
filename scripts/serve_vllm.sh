#!/usr/bin/env bash
# Serves a target with its EAGLE-3 draft in vLLM. --help lists the options.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/serve_vllm.sh TARGET [DRAFT] [--preset NAME] [--port PORT] [--print] [-- OPTIONS OF vllm serve]

Serves TARGET with the EAGLE-3 DRAFT (folders or hub ids) in vLLM, which drafts chains. Without DRAFT the target decodes alone:
so the answers for its first draft are written (python -m data_recipes.regenerate).

  --preset chain3   num_speculative_tokens 3, the default: 4 tokens verified per forward
  --preset chain7   num_speculative_tokens 7: 8 tokens verified per forward
  --port PORT       where it listens, 8000 by default
  --print           show the command and do not run it

Everything behind -- goes to vLLM as it is, for instance:

  scripts/serve_vllm.sh TARGET DRAFT --preset chain7 -- --dtype float16 --max-model-len 4096
TEXT
}

engine=vLLM preset=chain3 port=8000
source "$(dirname "${BASH_SOURCE[0]}")/serve_options.sh"

case $preset in
    chain3) k=3 ;;
    chain7) k=7 ;;
    tree*) fail "vLLM drafts chains only; trees are served by scripts/serve_sglang.sh" ;;
    *) fail "no preset $preset; there are chain3 and chain7" ;;
esac

command=(vllm serve "${models[0]}" --port "$port")
if ((${#models[@]} == 2)); then
    draft=${models[1]//\\/\\\\}
    command+=(--speculative-config "{\"method\": \"eagle3\", \"model\": \"${draft//\"/\\\"}\", \"num_speculative_tokens\": $k}")
fi
command+=(${rest[@]+"${rest[@]}"})
if $show; then
    printf '%q ' "${command[@]}" && echo
    exit
fi
command -v vllm >/dev/null || fail "no vllm here; activate the environment it is installed in"
exec "${command[@]}"
