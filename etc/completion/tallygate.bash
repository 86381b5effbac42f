# bash completion of tallygate; made by: tallygate help --completion

_tallygate_admin() {
    local common="--server --token-file --config --json --limit --idempotency-key --help"
    if [ "$COMP_CWORD" -eq 2 ]; then
        words="tenants customers keys channels books quotes usage records holds tokens audit --help"
        return
    fi
    if [ "$COMP_CWORD" -eq 3 ]; then
        case ${COMP_WORDS[2]} in
        tenants) words="list get create update delete credit balance ledger grants statement" ;;
        customers) words="list get create update delete credit balance ledger" ;;
        keys) words="list get create update rotate revoke" ;;
        channels) words="list get create update delete test" ;;
        books) words="list get create version" ;;
        quotes) words="create" ;;
        usage) words="report" ;;
        records) words="list tail export get refund" ;;
        holds) words="list resolve" ;;
        tokens) words="list get create delete" ;;
        audit) words="list export" ;;
        esac
        return
    fi
    case "${COMP_WORDS[2]} ${COMP_WORDS[3]}" in
    'tenants list') words="--external-id --status $common" ;;
    'tenants get') words="$common" ;;
    'tenants create') words="--name --external-id --timezone --credit-limit --price-book --markup-percent --in-doubt --limits --budgets --policy $common" ;;
    'tenants update') words="--name --external-id --timezone --credit-limit --price-book --markup-percent --in-doubt --status --limits --budgets --policy $common" ;;
    'tenants delete') words="$common" ;;
    'tenants credit') words="--category --expires-at --priority --note $common" ;;
    'tenants balance') words="--at $common" ;;
    'tenants ledger') words="$common" ;;
    'tenants grants') words="$common" ;;
    'tenants statement') words="--month --format $common" ;;
    'customers list') words="--tenant --external-id --status $common" ;;
    'customers get') words="$common" ;;
    'customers create') words="--name --tenant --external-id --wallet --credit-limit --price-book --markup-percent --limits --budgets --policy $common" ;;
    'customers update') words="--name --external-id --wallet --credit-limit --price-book --markup-percent --status --limits --budgets --policy $common" ;;
    'customers delete') words="$common" ;;
    'customers credit') words="--category --expires-at --priority --note $common" ;;
    'customers balance') words="--at $common" ;;
    'customers ledger') words="$common" ;;
    'keys list') words="--tenant --customer --external-id --status --mode --prefix --last4 $common" ;;
    'keys get') words="$common" ;;
    'keys create') words="--name --tenant --customer --external-id --mode --expires-at --limits --budgets --policy $common" ;;
    'keys update') words="--name --external-id --expires-at --status --limits --budgets --policy $common" ;;
    'keys rotate') words="--grace-seconds $common" ;;
    'keys revoke') words="$common" ;;
    'channels list') words="--status $common" ;;
    'channels get') words="$common" ;;
    'channels create') words="--name --kind --base-url --api-key-file --models --priority --weight --max-concurrency --timeout-seconds --cost-book --tenants --status $common" ;;
    'channels update') words="--name --base-url --api-key-file --models --priority --weight --max-concurrency --timeout-seconds --cost-book --tenants --status $common" ;;
    'channels delete') words="$common" ;;
    'channels test') words="$common" ;;
    'books list') words="--tenant $common" ;;
    'books get') words="$common" ;;
    'books create') words="--name --kind --tenant $common" ;;
    'books version') words="--effective-from --rates $common" ;;
    'quotes create') words="--model --tenant --customer --key --operation --size --quality --n --partial-images --input-images --prompt-tokens $common" ;;
    'usage report') words="--start-time --end-time --bucket-width --group-by --tenant --customer --key --model --operation --size --quality --channel --timezone --top --order-by --format $common" ;;
    'records list') words="--start-time --end-time --tenant --customer --key --model --operation --size --quality --channel --request-id $common" ;;
    'records tail') words="--tenant --customer --key --model --channel $common" ;;
    'records export') words="--format --start-time --end-time --tenant --customer --key --model --operation --size --quality --channel $common" ;;
    'records get') words="$common" ;;
    'records refund') words="--reason --amount $common" ;;
    'holds list') words="--state $common" ;;
    'holds resolve') words="--amount $common" ;;
    'tokens list') words="$common" ;;
    'tokens get') words="$common" ;;
    'tokens create') words="--name --scope --role --expires-at $common" ;;
    'tokens delete') words="$common" ;;
    'audit list') words="--tenant --token --action --object --start-time --end-time $common" ;;
    'audit export') words="--format --tenant --token --action --object --start-time --end-time $common" ;;
    esac
}

_tallygate() {
    local words="" current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    COMPREPLY=()
    case $before in
    -c|--config|--token-file|--api-key-file)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return ;;
    esac
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="serve check-config migrate admin-token admin fsck backup sandbox version help"
    else
    case ${COMP_WORDS[1]} in
    admin) _tallygate_admin ;;
    serve) words="--config --help" ;;
    check-config) words="--config --help" ;;
    migrate) words="--config --help" ;;
    admin-token) words="--config --name --scope --role --help" ;;
    admin) words="--config --server --token-file --json --limit --idempotency-key --help" ;;
    fsck) words="--config --json --help" ;;
    backup) words="--config --help" ;;
    sandbox) words="--listen --latency --help" ;;
    version) words="--help" ;;
    help) words="--man --sample --completion --routes --help" ;;
    esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -F _tallygate tallygate
