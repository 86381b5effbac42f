/* endpoints.h - the upstream's routes. */
#ifndef TG_SANDBOX_ENDPOINTS_H
#define TG_SANDBOX_ENDPOINTS_H

#include "daemon/front/front.h"

struct sandbox {
    int64_t latency; /* microseconds before every answer */
};

/* All of them; their ctx is a struct sandbox. Ends with a NULL method. */
extern const struct front_route sandbox_routes[];

#endif
