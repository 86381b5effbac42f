/* command_token.c - `admin-token create`: the first token of a new installation, and any other that whoever holds the
 * master key wants.
 *
 *   store_open --ok------> store_apply: no daemon runs; the database is made when there is none
 *        \--CONFLICT-----> POST to the running daemon's admin listener with the token that the master key gives
 *
 * The secret goes to standard output, alone on its line, and nowhere else. One thread. */
#include <limits.h>
#include <pwd.h>
#include <unistd.h>

#include "client.h"
#include "commands.h"
#include "daemon/base/log.h"
#include "house.h"
#include "render.h"

struct making {
    const char *name;
    const char *scope; /* "platform", or a tenant's id as text */
    enum admin_role role;
    struct secrets *secrets;
    char secret[SECRET_KEY_TEXT]; /* out */
};

/* ---- without a daemon ---- */

struct search {
    struct id id;
    int64_t row; /* 0: not found */
};

static void look_at(void *ctx, struct record *record)
{
    struct search *search = ctx;

    if (record->kind == RECORD_TENANT && id_eq(record->id, search->id))
        search->row = record->row;
}

static enum err_code find_scope(struct store *store, const char *scope, int64_t *row, struct err *err)
{
    struct search search = {.row = 0};

    *row = 0;
    if (strcmp(scope, "platform") == 0)
        return ERR_OK;
    if (id_parse("ten", slice_from(scope), &search.id))
        store_each_record(store, look_at, &search);
    *row = search.row;
    return *row != 0 ? ERR_OK : admin_no_such(err, "tenant", "scope", slice_from(scope));
}

/* Beside the token itself, whose account of this machine made it. */
static void describe_made_here(const struct record *record, const struct store_names *names, struct buf *out)
{
    const struct passwd *user = getpwuid(geteuid());

    admin_describe(record, names, out);
    out->len--; /* the closing brace */
    render_text(out, "made_by_user", slice_from(user != NULL ? user->pw_name : "unknown"));
    render_close(out, '}');
}

static enum err_code make_here(struct store *store, struct making *m, struct err *err)
{
    struct store_actor actor = {
        .request = id_make(), .action = "admin_token.create", .describe = describe_made_here, .status = 200};
    struct store_put put = {.super = {.kind = STORE_PUT, .actor = &actor}};
    struct admin_token *token;
    int64_t tenant_row;
    enum err_code code = find_scope(store, m->scope, &tenant_row, err);

    if (code != ERR_OK)
        return code;
    token = record_create(RECORD_ADMIN_TOKEN, 0);
    token->super.id = id_make();
    (void)slice_copy(slice_from(m->name), token->super.name, sizeof(token->super.name));
    token->tenant_row = tenant_row;
    token->role = m->role;
    secret_make_key(m->secrets, SECRET_ADMIN_TOKEN, m->secret, token->digest);
    put.record = &token->super;
    buf_init(&actor.reply, ADMIN_REPLY);
    code = store_apply(store, &put.super);
    buf_dispose(&actor.reply);
    if (code == ERR_OK)
        record_unref(put.record);
    else
        *err = put.super.err;
    return code;
}

/* ---- beside a daemon ---- */

static enum err_code read_secret(int status, const struct buf *reply, struct making *m, struct err *err)
{
    struct json_object *tree = NULL, *problem;
    enum err_code code = json_read(buf_slice(reply), &tree, err);

    if (code != ERR_OK)
        return code;
    if (status == 200)
        code = json_get_text(tree, "secret", true, m->secret, sizeof(m->secret), NULL, err);
    else if (json_find(tree, "error", &problem) && json_find(problem, "message", &problem))
        code = err_set(err, ERR_BAD_REQUEST, NULL, "the daemon refused: %s", json_object_get_string(problem));
    else
        code = err_set(err, ERR_BAD_REQUEST, NULL, "the daemon answered with status %d", status);
    json_object_put(tree);
    return code;
}

static enum err_code ask_daemon(const struct conf *conf, struct slice body, int *status, struct buf *reply,
                                const struct secrets *secrets, struct err *err)
{
    char token[SECRET_KEY_TEXT];
    enum err_code code = ERR_NO_CHANNEL;

    secret_local_token(secrets, token);
    for (size_t i = 0; i < conf->admin_listen.n && code == ERR_NO_CHANNEL; i++)
        code = client_call(&(struct client_request){.server = conf->admin_listen.at[i],
                                                    .method = "POST",
                                                    .path = "/admin/v1/admin-tokens",
                                                    .token = token,
                                                    .body = body},
                           status, reply, err);
    secret_wipe(token, sizeof(token));
    if (code == ERR_NO_CHANNEL)
        return err_set(err, code, NULL,
                       "the store is in use by another process, and no daemon answers on the admin listener");
    return code;
}

static enum err_code make_there(const struct conf *conf, struct making *m, struct err *err)
{
    struct buf body, reply;
    int status = 0;
    enum err_code code;

    buf_init(&body, CLIENT_REPLY);
    buf_init(&reply, CLIENT_REPLY);
    render_open(&body, NULL, '{');
    render_text(&body, "name", slice_from(m->name));
    render_text(&body, "scope", slice_from(m->scope));
    render_text(&body, "role", m->role == ADMIN_VIEWER ? SLICE("viewer") : SLICE("admin"));
    render_close(&body, '}');
    code = ask_daemon(conf, buf_slice(&body), &status, &reply, m->secrets, err);
    if (code == ERR_OK)
        code = read_secret(status, &reply, m, err);
    if (reply.len > 0)
        secret_wipe(reply.p, reply.len);
    buf_dispose(&body);
    buf_dispose(&reply);
    return code;
}

/* ---- the command ---- */

static enum err_code make(const struct conf *conf, struct making *m, struct err *err)
{
    struct store_options options = {.url = conf->store_url, .migrate = conf->store_auto_migrate};
    char fallback[PATH_MAX];
    struct store *store = NULL;
    enum err_code code;

    if (!conf_beside_store(conf, "master.key", fallback, sizeof(fallback)))
        return err_set(err, ERR_INVALID_VALUE, "store.url", "the path is too long");
    code = secret_open(conf->secrets_master_key_file, fallback, &m->secrets, err);
    if (code != ERR_OK)
        return code;
    options.secrets = m->secrets;
    code = store_open(&options, &store, err);
    if (code == ERR_CONFLICT)
        code = make_there(conf, m, err);
    else if (code == ERR_OK)
        code = make_here(store, m, err);
    store_close(store);
    secret_close(m->secrets);
    return code;
}

static int read_arguments(int argc, char **argv, struct arguments *a, struct making *m)
{
    if (!arguments_read(argc, argv, "cnsr", 1, a))
        return COMMAND_USAGE;
    if (a->operand == NULL || strcmp(a->operand, "create") != 0)
        return command_misuse(argv[0], "what to do? 'create' is missing");
    if (a->config == NULL)
        return command_misuse(argv[0], "which configuration? -c FILE is missing");
    if (a->name == NULL || a->name[0] == '\0' || strlen(a->name) >= LIMIT_NAME)
        return command_misuse(argv[0], "--name NAME is missing, or longer than %d bytes", LIMIT_NAME - 1);
    if (a->role != NULL && strcmp(a->role, "admin") != 0 && strcmp(a->role, "viewer") != 0)
        return command_misuse(argv[0], "--role is admin or viewer, not '%s'", a->role);
    m->name = a->name;
    m->scope = a->scope != NULL ? a->scope : "platform";
    m->role = a->role != NULL && strcmp(a->role, "viewer") == 0 ? ADMIN_VIEWER : ADMIN_ADMIN;
    return COMMAND_DONE;
}

int command_admin_token(int argc, char **argv)
{
    struct arguments arguments;
    struct making making = {.name = NULL};
    struct conf *conf;
    struct err err;
    int exit_code = read_arguments(argc, argv, &arguments, &making);

    if (exit_code != COMMAND_DONE)
        return exit_code;
    conf = command_conf(&arguments);
    if (conf == NULL)
        return COMMAND_FAILED;
    log_init(LEVEL_WARN);
    model_init();
    if (make(conf, &making, &err) == ERR_OK) {
        printf("%s\n", making.secret);
    } else {
        fprintf(stderr, "tallygate admin-token: %s\n", err.message);
        exit_code = COMMAND_FAILED;
    }
    secret_wipe(making.secret, sizeof(making.secret));
    conf_destroy(conf);
    return fflush(stdout) == 0 ? exit_code : COMMAND_FAILED;
}
