/* main.c - argv to a command; `serve` is the daemon itself (serve.c), all others are the admin room's. */
#include "admin/admin.h"
#include "serve.h"

int main(int argc, char **argv)
{
    return commands_run(argc, argv, serve);
}
