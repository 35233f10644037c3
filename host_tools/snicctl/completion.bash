# Completion for snicctl: source it, or copy it to /usr/share/bash-completion/completions/snicctl.

_snicctl_options() {
    case "$1" in
    functions | queues | namespaces | volumes | paths | associations | connections | qps | ports | \
        drives | reactors | slots) echo "--where --all" ;;
    stats) echo "--prometheus --where" ;;
    top) echo "--view --interval-ms --count --lines" ;;
    log) echo "--follow --level" ;;
    crash) echo "--elf" ;;
    trace) echo "--enable --record --ios --io --event --perfetto" ;;
    config) echo "-o" ;;
    flash) echo "--slot --no-activate --check --force --reset" ;;
    rollback) echo "--reset" ;;
    reset) echo "--no-wait --timeout" ;;
    run | discover | activate) echo "--timeout" ;;
    image) echo "--key" ;;
    ping) echo "--rdma --timeout" ;;
    fabric) echo "--tree" ;;
    esac
}

_snicctl_words() {
    case "$1" in
    config) echo "get check set forget" ;;
    image) echo "show build sign" ;;
    help) _snicctl_commands ;;
    esac
}

_snicctl_commands() {
    echo "status functions queues namespaces volumes paths associations connections qps ports" \
        "drives reactors slots stats top log crash trace config flash activate confirm rollback image run" \
        "discover ping reset doctor fabric schema version help"
}

_snicctl_files() {
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_snicctl() {
    local current=${COMP_WORDS[COMP_CWORD]} before="" command="" word i
    ((COMP_CWORD > 0)) && before=${COMP_WORDS[COMP_CWORD - 1]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "$word" in
        --device | --console | --baud) ((i++)) ;;
        -*) ;;
        *)
            command=$word
            break
            ;;
        esac
    done

    case "$before" in
    --device) mapfile -t COMPREPLY < <(compgen -W "$(echo /dev/nvme*[0-9])" -- "$current"); return ;;
    --console | --elf | --perfetto | --key | --tree | -o) _snicctl_files "$current"; return ;;
    --view)
        mapfile -t COMPREPLY < <(compgen -W \
            "queues qps pollers volumes paths reactors stats" -- "$current")
        return
        ;;
    --level) mapfile -t COMPREPLY < <(compgen -W "error warning info debug" -- "$current"); return ;;
    --enable)
        mapfile -t COMPREPLY < <(compgen -W "sched control io fault all none" -- "$current")
        return
        ;;
    esac
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--device --console --baud --rack --json --all --help \
            $(_snicctl_options "$command")" -- "$current")
    elif [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_snicctl_commands)" -- "$current")
    elif [[ $before == "$command" && -n $(_snicctl_words "$command") ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_snicctl_words "$command")" -- "$current")
    else
        _snicctl_files "$current"
    fi
}

complete -F _snicctl snicctl
