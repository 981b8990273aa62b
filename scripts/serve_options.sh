# What serve_vllm.sh and serve_sglang.sh read alike; they source it after defining `usage` and setting engine, preset and port.
# Sets models (TARGET and perhaps DRAFT), preset, port, show and rest (options of the engine).

fail() {
    printf 'error: %s\nscripts/%s --help lists all options.\n' "$1" "${0##*/}" >&2
    exit 2
}

models=() rest=() show=false
while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --print) show=true ;;
        --preset | --port)
            (($# > 1)) || fail "$1 needs a value"
            if [[ $1 == --port ]]; then port=$2; else preset=$2; fi
            shift
            ;;
        --) shift && rest=("$@") && break ;;
        -*) fail "unknown option $1; put options of $engine behind --" ;;
        *) models+=("$1") ;;
    esac
    shift
done
((${#models[@]} == 1 || ${#models[@]} == 2)) || fail "expected TARGET and perhaps DRAFT, found ${#models[@]} names"
