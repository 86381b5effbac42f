/* views.h - handlers of the routes that only look; front.h tells what a handler is. */
#ifndef TG_SANDBOX_VIEWS_H
#define TG_SANDBOX_VIEWS_H

#include "daemon/front/front.h"

void view_models(void *sandbox, struct front_call *call);  /* GET /v1/models */
void view_model(void *sandbox, struct front_call *call);   /* GET /v1/models/{rest} */
void view_served(void *sandbox, struct front_call *call);  /* GET /sandbox/served */
void view_picture(void *sandbox, struct front_call *call); /* GET /sandbox/images/{id}: what a reply's url names */

#endif
