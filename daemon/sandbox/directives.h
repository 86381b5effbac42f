/* directives.h - what a prompt asks the sandbox to do: "[[latency=2s]] [[status=429]] a sea otter".
 *
 *   latency=2s        wait before the answer (us, ms, s)      status=429       answer with this error status (400..599)
 *   usage=none        leave the usage out                     usage=1000,20,4160  text in, image in, image out
 *   images=1          deliver fewer (0..n)                    bytes=4MiB       bytes of each picture (B, KiB, MiB)
 *   die=headers       close before any answer                 die=50%          close after that share of the answer
 *   hang              never answer                            moderation       refuse as the safety system does
 *   slow=100KiB/s     at this rate                            split=1          so many bytes a write
 *
 * Anything else in double brackets is part of the prompt. */
#ifndef TG_SANDBOX_DIRECTIVES_H
#define TG_SANDBOX_DIRECTIVES_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/slice.h"

enum { DIRECTIVE_DIE_NEVER = -1, DIRECTIVE_DIE_HEADERS = -2 };
#define DIRECTIVE_BYTES_MAX (INT64_C(64) * 1024 * 1024) /* of one picture */
#define DIRECTIVE_LATENCY_MAX (INT64_C(3600) * 1000000)

struct directives {
    int64_t latency; /* microseconds; 0: none asked */
    int status;      /* 0: none asked */
    bool usage_none;
    bool usage_given;
    int64_t usage[3]; /* text in, image in, image out */
    int images;       /* -1: as many as asked */
    int64_t bytes;    /* 0: as the picture is */
    int die;          /* percent, or DIRECTIVE_DIE_* */
    bool hang;
    bool moderation;
    int64_t slow;  /* bytes a second; 0: no limit */
    int64_t split; /* bytes a write; 0: all at once */
};

/* Reads every directive in <prompt>; the last of a kind counts. */
void directives_read(struct slice prompt, struct directives *out);

#endif
