/* sandbox.h - the simulated upstream: answers the Images API as OpenAI would, steered from the prompt. */
#ifndef TG_SANDBOX_SANDBOX_H
#define TG_SANDBOX_SANDBOX_H

#include <stdint.h>

/* Serves on "HOST:PORT" until SIGTERM or SIGINT; every answer waits <latency> microseconds. Prints where it listens on
 * standard output. Returns the process's exit code. */
int sandbox_run(const char *listen, int64_t latency);

#endif
