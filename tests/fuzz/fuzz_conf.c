/* fuzz_conf.c - any bytes read as a configuration file: either a conf that keeps its own bounds, or faults that were
 * told, each on a line of its own. */
#define _GNU_SOURCE /* memfd_create */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/base/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_conf(const struct conf *c)
{
    TG_ASSERT(c->public_listen.n >= 1 && c->public_listen.n <= CONF_LIST && c->admin_listen.n >= 1);
    TG_ASSERT(c->public_max_body >= 4096 && c->public_max_body <= INT64_C(4294967296));
    TG_ASSERT(c->relay_timeout >= CLOCK_SECOND && c->relay_timeout <= 3600 * CLOCK_SECOND);
    TG_ASSERT(c->server_threads >= 0 && c->server_threads <= 256);
    TG_ASSERT(strncmp(c->store_url, "sqlite:", 7) == 0 && c->store_url[7] != '\0');
    TG_ASSERT((c->public_tls_certificate[0] != '\0') == (c->public_tls_key[0] != '\0'));
    TG_ASSERT(c->relay_in_doubt <= IN_DOUBT_KEEP && c->server_log_level <= LEVEL_ERROR);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32], *told = NULL;
    size_t len = 0;
    int fd = memfd_create("conf", MFD_CLOEXEC);
    FILE *faults = open_memstream(&told, &len);
    struct conf *conf;

    TG_ASSERT(fd >= 0 && faults != NULL);
    if (write(fd, data, size) != (ssize_t)size)
        abort();
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    conf = conf_read(path, faults);
    fclose(faults);
    TG_ASSERT((conf != NULL) == (len == 0));
    if (conf != NULL)
        check_conf(conf);
    else
        TG_ASSERT(told[len - 1] == '\n' && strncmp(told, path, strlen(path)) == 0);
    conf_destroy(conf);
    free(told);
    close(fd);
    return 0;
}
