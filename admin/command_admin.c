/* command_admin.c - `tallygate admin NOUN VERB`: the daily work over the admin API, from the table verbs.def.
 *
 *   argv --read--> struct errand --ask--> the daemon --show--> a table, lines, or JSON
 *
 * The token comes from a file, the environment or, beside the daemon's own configuration, from the master key; never
 * from the command line, which every user of the machine can see. A POST carries an Idempotency-Key; when no answer
 * came it is told, so that the same command can be repeated without doing its work twice. One thread. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "commands.h"
#include "daemon/base/secret.h"
#include "errand.h"

enum { PATH = 64 * 1024 }; /* bytes of a path with its query */

/* Options that every verb has (enum common); the verb's own follow them. */
static const struct option common_options[COMMON] = {
    {"server", required_argument, NULL, 0}, {"token-file", required_argument, NULL, 0},
    {"config", required_argument, NULL, 0}, {"json", no_argument, NULL, 0},
    {"limit", required_argument, NULL, 0},  {"idempotency-key", required_argument, NULL, 0},
};

/* ---- reading the command line ---- */

int errand_misuse(const struct errand *e, const char *what, const char *name)
{
    return command_misuse("admin", "%s %s: %s '%s'", e->verb->noun, e->verb->verb, what, name);
}

/* "external-id" to "external_id". */
static void member_name(const char *option, char out[VERB_OPTION])
{
    size_t i = 0;

    for (; option[i] != '\0' && i + 1 < VERB_OPTION; i++)
        out[i] = option[i] == '-'                       ? '_'
                 : option[i] >= 'A' && option[i] <= 'Z' ? (char)(option[i] - 'A' + 'a')
                                                        : option[i];
    out[i] = '\0';
}

bool errand_number(const char *text, int64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static int add_member(struct errand *e, const struct verb_option *option, const char *value)
{
    char name[VERB_OPTION];
    struct json_object *made = NULL;
    int64_t number;

    member_name(option->name, name);
    if (value[0] != '\0' && option->type == VERB_INT) {
        if (!errand_number(value, &number))
            return errand_misuse(e, "no whole number for", option->name);
        made = json_object_new_int64(number);
    } else if (value[0] != '\0' && option->type == VERB_JSON) {
        enum json_tokener_error problem;

        made = json_tokener_parse_verbose(value, &problem);
        if (made == NULL && problem != json_tokener_success)
            return errand_misuse(e, "no JSON text for", option->name);
    } else if (value[0] != '\0') {
        made = json_object_new_string(value);
    }
    (void)json_object_object_add(e->body, name, made); /* an empty value: null */
    return COMMAND_DONE;
}

/* The first line of a file that holds a secret; "-": of standard input. */
static bool read_line(const char *path, char *out, size_t cap)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    bool ok = file != NULL && fgets(out, (int)cap, file) != NULL;
    size_t len = ok ? strcspn(out, "\r\n") : 0;

    ok = ok && len > 0 && (out[len] != '\0' || len + 1 < cap);
    out[ok ? len : 0] = '\0';
    if (file != NULL && file != stdin)
        (void)fclose(file);
    return ok;
}

/* An upstream's credential: "api-key-file" to the member api_key. */
static int add_file(struct errand *e, const char *path)
{
    char text[LIMIT_CREDENTIAL + 2];

    if (!read_line(path, text, sizeof(text)))
        return errand_misuse(e, "no credential can be read from", path);
    (void)json_object_object_add(e->body, "api_key", json_object_new_string(text));
    secret_wipe(text, sizeof(text));
    return COMMAND_DONE;
}

static int take_option(struct errand *e, int i, const char *value)
{
    const struct verb_option *option = &e->options[i];
    char name[VERB_OPTION];

    e->given |= 1u << i;
    if (strcmp(option->name, "format") == 0 && strcmp(value, "json") != 0) {
        e->format = value;
        return COMMAND_DONE;
    }
    if (strcmp(option->name, "format") == 0)
        return COMMAND_DONE;
    if (strcmp(option->name, "api-key-file") == 0)
        return add_file(e, value);
    if (e->body != NULL)
        return add_member(e, option, value);
    member_name(option->name, name);
    client_add_query(&e->query, name, value);
    return COMMAND_DONE;
}

static int take_options(struct errand *e, int argc, char **argv)
{
    struct option options[COMMON + VERB_OPTIONS + 1] = {{0}};
    int letter, place, code = COMMAND_DONE;

    memcpy(options, common_options, sizeof(common_options));
    for (int i = 0; i < e->n_options; i++)
        options[COMMON + i] = (struct option){e->options[i].name, required_argument, NULL, 0};
    opterr = 0;
    optind = 1;
    while (code == COMMAND_DONE && (letter = getopt_long(argc, argv, ":c:j", options, &place)) != -1) {
        if (letter == ':')
            return errand_misuse(e, "a value is missing for", argv[optind - 1]);
        if (letter == '?')
            return errand_misuse(e, "there is no option", argv[optind - 1]);
        if (letter == 'c')
            place = COMMON_CONFIG;
        if (letter == 'j' || (letter == 0 && place == COMMON_JSON))
            e->json = true;
        else if (letter == 'c' || place < COMMON)
            e->common[place] = optarg;
        else
            code = take_option(e, place - COMMON, optarg);
    }
    return code;
}

static int check_required(const struct errand *e)
{
    for (int i = 0; i < e->n_options; i++) {
        if (e->options[i].required && (e->given & 1u << i) == 0)
            return errand_misuse(e, "this option is missing:", e->options[i].name);
    }
    return COMMAND_DONE;
}

/* The verb's path with the id in its place; the other operands become members of the body. */
static int take_operands(struct errand *e, int argc, char **argv)
{
    struct slice rest = slice_from(e->verb->operands), word;
    bool first = strstr(e->verb->path, "{id}") != NULL;
    struct verb_option member = {.type = VERB_TEXT};
    int i = optind, code = COMMAND_DONE;

    for (; rest.len > 0 && code == COMMAND_DONE; i++) {
        (void)slice_cut(rest, ' ', &word, &rest);
        (void)slice_copy(word, member.name, sizeof(member.name));
        if (i >= argc)
            return errand_misuse(e, "this is missing:", member.name);
        if (!first)
            code = add_member(e, &member, argv[i]);
        first = false;
    }
    return i < argc ? errand_misuse(e, "too many words:", argv[i]) : code;
}

static void put_path(struct errand *e, const char *id)
{
    const char *at = strstr(e->verb->path, "{id}");

    buf_append_str(&e->path, "/admin/v1");
    if (at == NULL) {
        buf_append_str(&e->path, e->verb->path);
        buf_append_slice(&e->path, buf_slice(&e->query));
        return;
    }
    buf_append(&e->path, e->verb->path, (size_t)(at - e->verb->path));
    for (; *id != '\0'; id++) { /* an id has nothing to escape; whatever else stands there must not change the path */
        if (strchr("/?#%", *id) == NULL && *id > ' ')
            buf_append_char(&e->path, *id);
        else
            buf_printf(&e->path, "%%%02X", (unsigned char)*id);
    }
    buf_append_str(&e->path, at + strlen("{id}"));
    buf_append_slice(&e->path, buf_slice(&e->query));
}

/* Options first, for getopt puts the operands behind them; a negative amount stands behind "--". */
static int read_errand(struct errand *e, int argc, char **argv)
{
    bool body = strcmp(e->verb->method, "POST") == 0 || strcmp(e->verb->method, "PATCH") == 0;
    int code;

    e->n_options = verb_options(e->verb, e->options);
    if (body)
        e->body = json_object_new_object();
    code = take_options(e, argc, argv);
    if (code == COMMAND_DONE)
        code = take_operands(e, argc, argv);
    if (code == COMMAND_DONE)
        code = check_required(e);
    if (code == COMMAND_DONE)
        put_path(e, argv[optind]);
    return code;
}

/* ---- whom to ask, and as whom ---- */

/* The daemon's own configuration says where it listens, and its master key who may ask. */
static int read_config(struct errand *e, bool want_token)
{
    const struct arguments arguments = {.config = e->common[COMMON_CONFIG]};
    struct conf *conf = command_conf(&arguments);
    struct secrets *secrets = NULL;
    char fallback[PATH_MAX];
    struct err err;
    bool ok = conf != NULL && conf->admin_listen.n > 0;

    if (ok && e->server[0] == '\0')
        ok = slice_copy(slice_from(conf->admin_listen.at[0]), e->server, sizeof(e->server));
    if (ok && want_token) {
        ok = conf_beside_store(conf, "master.key", fallback, sizeof(fallback)) &&
             secret_open(conf->secrets_master_key_file, fallback, &secrets, &err) == ERR_OK;
        if (ok)
            secret_local_token(secrets, e->token);
        else
            fprintf(stderr, "tallygate admin: the master key cannot be read\n");
        secret_close(secrets);
    }
    if (conf != NULL)
        conf_destroy(conf);
    return ok ? COMMAND_DONE : ADMIN_REFUSED;
}

static int find_daemon(struct errand *e)
{
    const char *server = e->common[COMMON_SERVER] != NULL ? e->common[COMMON_SERVER] : getenv("TALLYGATE_ADMIN_URL");
    const char *token = getenv("TALLYGATE_ADMIN_TOKEN");
    const char *file = e->common[COMMON_TOKEN_FILE];
    int code = COMMAND_DONE;

    if (file == NULL && token == NULL && e->common[COMMON_CONFIG] == NULL)
        file = getenv("TALLYGATE_ADMIN_TOKEN_FILE");
    if (server != NULL && !slice_copy(slice_from(server), e->server, sizeof(e->server)))
        return command_misuse("admin", "the server's name is too long");
    if (file != NULL && !read_line(file, e->token, sizeof(e->token)))
        return command_misuse("admin", "no token can be read from '%s'", file);
    if (file == NULL && e->common[COMMON_CONFIG] == NULL && token != NULL &&
        !slice_copy(slice_from(token), e->token, sizeof(e->token)))
        return command_misuse("admin", "TALLYGATE_ADMIN_TOKEN is too long");
    if (e->common[COMMON_CONFIG] != NULL)
        code = read_config(e, file == NULL);
    if (code == COMMAND_DONE && e->token[0] == '\0')
        return command_misuse("admin", "no token: give --token-file FILE, -c FILE, or set TALLYGATE_ADMIN_TOKEN");
    if (e->server[0] == '\0')
        (void)slice_copy(SLICE("127.0.0.1:8081"), e->server, sizeof(e->server));
    return code;
}

/* ---- the command ---- */

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

/* Help, or what is wrong with the first words. */
static int explain_words(int argc, char **argv, const struct verb *verb)
{
    bool help = wants_help(argc, argv);
    const char *noun = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;

    if (help && verb != NULL) {
        verb_print(stdout, verb);
        return COMMAND_DONE;
    }
    if (help) {
        printf("Usage: tallygate admin NOUN VERB [WORDS] [OPTIONS]\n\n");
        verbs_print(stdout, noun);
        return COMMAND_DONE;
    }
    fprintf(stderr, "tallygate admin: what to do? NOUN VERB, one of\n");
    verbs_print(stderr, NULL);
    return ADMIN_MISUSE;
}

int command_admin(int argc, char **argv)
{
    struct errand e = {.verb = argc > 2 ? verb_find(argv[1], argv[2]) : NULL};
    int code;

    if (e.verb == NULL || wants_help(argc, argv))
        return explain_words(argc, argv, e.verb);
    buf_init(&e.path, PATH);
    buf_init(&e.query, PATH / 2);
    code = read_errand(&e, argc - 2, argv + 2);
    if (code == COMMAND_DONE)
        code = find_daemon(&e);
    if (code == COMMAND_DONE)
        code = errand_run(&e);
    secret_wipe(e.token, sizeof(e.token));
    json_object_put(e.body);
    buf_dispose(&e.path);
    buf_dispose(&e.query);
    return fflush(stdout) == 0 && !ferror(stdout) ? code : COMMAND_FAILED;
}
