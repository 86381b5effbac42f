/* generations.h - POST /v1/images/generations as the upstream answers it. */
#ifndef TG_SANDBOX_GENERATIONS_H
#define TG_SANDBOX_GENERATIONS_H

#include "daemon/front/front.h"

struct sandbox {
    int64_t latency; /* microseconds before every answer */
};

void generations_handle(void *sandbox, struct front_call *call);

/* GET /sandbox/images/{id}: the picture that a reply's url names. */
void generations_picture(void *sandbox, struct front_call *call);

#endif
