/* command_backup.c - the command `backup`. It starts no thread and serves nobody. */
#include "commands.h"
#include "daemon/base/log.h"
#include "progress.h"

int command_backup(int argc, char **argv)
{
    struct arguments arguments;
    struct progress progress;
    struct conf *conf;
    struct err err;
    enum err_code code;

    if (!arguments_read(argc, argv, "c", 1, &arguments))
        return COMMAND_USAGE;
    if (arguments.config == NULL)
        return command_misuse(argv[0], "which configuration? -c FILE is missing");
    if (arguments.operand == NULL)
        return command_misuse(argv[0], "where to? the name of the copy is missing");
    conf = command_conf(&arguments);
    if (conf == NULL)
        return COMMAND_FAILED;
    log_init(LEVEL_WARN);
    progress_init(&progress);
    code = store_backup(conf->store_url, arguments.operand, progress_draw, &progress, &err);
    progress_clear(&progress);
    if (code != ERR_OK)
        fprintf(stderr, "tallygate backup: %s\n", err.message);
    else
        printf("%s: copied to %s\n", conf->store_url, arguments.operand);
    conf_destroy(conf);
    return code == ERR_OK ? COMMAND_DONE : COMMAND_FAILED;
}
